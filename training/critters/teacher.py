"""A trained U-Net that teaches the transformer.

Of one picture and one noise, most of the velocity cannot be foretold, so that in small batches the gradients are mostly
chance.  What a trained denoiser answers is the mean over all pictures that the noisy one may come from: a target
without that chance (as with Xu et al. 2023, arXiv 2302.00670, who take this mean over a batch of pictures).  Its
features, at one place for each token of the transformer, are a hint of what to find on the way (Romero et al. 2015,
arXiv 1412.6550; with features of another kind of model Yu et al. 2024, arXiv 2410.06940).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from .denoiser import build_scheduler
from .loop import compile_blocks


@dataclass(frozen=True)
class Lesson:
    """What a teacher says of some noisy latents."""

    known: Tensor
    """Bool `(batch,)`: whether the U-Net was trained with so much noise; if not, the rest means nothing."""
    velocity: Tensor
    """As the latents."""
    features: Tensor
    """`(batch, tokens, channels)`, each token's with mean 0 and deviation 1."""


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
        self._seen = torch.empty(0)
        self._unet.up_blocks[2].attentions[-1].register_forward_hook(self._look)

    @property
    def channels(self) -> int:
        """Of the features."""
        return int(self._unet.config.block_out_channels[1])

    def _look(self, _module: Any, _inputs: Any, output: Any) -> None:
        self._seen = output[0]

    @torch.no_grad()
    def __call__(self, noisy: Tensor, noise_levels: Tensor, tokens: Tensor) -> Lesson:
        """Of latents `(batch, channels, height, width)` at noise levels `(batch,)` between 0 and 1."""
        ratios = noise_levels / (1 - noise_levels)
        timesteps, known = timesteps_of(ratios, self._ratios)
        signal = (1 / (1 + ratios.square()).sqrt())[:, None, None, None]
        noise = (ratios / (1 + ratios.square()).sqrt())[:, None, None, None]
        latents = noisy * signal / (1 - noise_levels[:, None, None, None])  # of unit variance, as the U-Net knows them
        text = self._text_encoder(tokens).last_hidden_state
        answer = self._unet(latents, timesteps, encoder_hidden_states=text).sample.float()
        velocity = (noise * latents + signal * answer) - (signal * latents - noise * answer)
        features = self._seen.float().flatten(2).transpose(1, 2)
        return Lesson(known, velocity, F.layer_norm(features, features.shape[-1:]))


def timesteps_of(ratios: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Where ratios of noise to signal lie among the rising `known` ones of all timesteps, and whether they do at all.

    Between two timesteps the place is a fraction.
    """
    above = torch.searchsorted(known, ratios).clamp(1, len(known) - 1)
    low, high = known[above - 1], known[above]
    places = above - 1 + ((ratios - low) / (high - low)).clamp(0, 1)
    return places, ratios <= known[-1]
