"""A trained U-Net that teaches the transformer.

Of one picture and one noise, most of the velocity cannot be foretold, so that in small batches the gradients are mostly
chance.  What a trained denoiser answers is the mean over all pictures that the noisy one may come from: a target
without that chance (as with Xu et al. 2023, arXiv 2302.00670, who take this mean over a batch of pictures).
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from .denoiser import build_scheduler
from .loop import compile_blocks


class Teacher:
    """The U-Net and the text encoder of a folder that an earlier run wrote, asked in the terms of a flow."""

    def __init__(self, folder: Path, tokenizer: CLIPTokenizer, device: torch.device, compiled: bool = False) -> None:
        if CLIPTokenizer.from_pretrained(folder / "tokenizer").get_vocab() != tokenizer.get_vocab():
            raise ValueError(f"the teacher in {folder} has another vocabulary; give it as --warm-start too")
        self._text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").float().to(device).eval()
        self._unet = UNet2DConditionModel.from_pretrained(folder / "unet").to(device).eval()
        self._unet.to(memory_format=torch.channels_last)
        if compiled:
            compile_blocks(self._unet)
        alphas = build_scheduler().alphas_cumprod
        self._ratios = ((1 - alphas) / alphas).sqrt().to(device)

    @torch.no_grad()
    def __call__(self, noisy: Tensor, noise_levels: Tensor, tokens: Tensor, otherwise: Tensor) -> Tensor:
        """Velocities of latents `(batch, channels, height, width)` at noise levels `(batch,)` between 0 and 1.

        `otherwise`, velocities too, is handed on where the noise exceeds all that the U-Net was trained with.
        """
        ratios = noise_levels / (1 - noise_levels)
        timesteps, known = timesteps_of(ratios, self._ratios)
        signal = (1 / (1 + ratios.square()).sqrt())[:, None, None, None]
        noise = (ratios / (1 + ratios.square()).sqrt())[:, None, None, None]
        share = noise_levels[:, None, None, None]
        latents = noisy * signal / (1 - share)  # of unit variance, as the U-Net knows them
        text = self._text_encoder(tokens).last_hidden_state
        answer = self._unet(latents, timesteps, encoder_hidden_states=text).sample.float()
        velocity = (noise * latents + signal * answer) - (signal * latents - noise * answer)
        return torch.where(known[:, None, None, None], velocity, otherwise)


def timesteps_of(ratios: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Where ratios of noise to signal lie among the rising `known` ones of all timesteps, and whether they do at all.

    Between two timesteps the place is a fraction.
    """
    above = torch.searchsorted(known, ratios).clamp(1, len(known) - 1)
    low, high = known[above - 1], known[above]
    places = above - 1 + ((ratios - low) / (high - low)).clamp(0, 1)
    return places, ratios <= known[-1]
