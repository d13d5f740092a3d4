"""The text encoder and the U-Net of critters, trained together on the autoencoder's latents.

Four levels as Stable Diffusion 1.5; attention is left out at the finest level (as SDXL does), which keeps large
pictures affordable on a CPU, and at the deepest one (as both do).  Velocity prediction (Salimans & Ho 2022)
with min-SNR weights (Hang et al. 2023) learns global colour and layout soonest, which a short training needs.
Eyes, ears, mouths and tails are a sixth of a picture and most of what is seen of it: once the noise is low enough
that they have a place, errors there count for more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .loop import Schedule, adopt, compile_blocks, train
from .tokenizer import MAX_LENGTH


@dataclass(frozen=True)
class DenoiserSettings:
    widths: tuple[int, ...] = (64, 128, 192, 224)
    layers: int = 1
    channels: int = 4
    """Of the latents."""
    text_width: int = 128
    text_layers: int = 2
    steps: int = 9000
    batch: int = 16
    learning_rate: float = 8e-4
    muon: bool = False
    """Kernels and matrices by Muon."""
    seed: int = 0
    """Of what each step draws; another for a training that goes on from an earlier one's end."""
    caption_dropout: float = 0.1
    snr_gamma: float = 5.0
    detail_weight: float = 3.0
    """How much more an error in a detail counts, times the share of the signal that is left (alpha bar).  With as much
    in pure noise the model would be taught to put a tail wherever one might be."""


def build_text_encoder(tokenizer: CLIPTokenizer, width: int, layers: int) -> CLIPTextModel:
    """Of whatever draws critters, the U-Net or the transformer."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=width * 4,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            projection_dim=width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Denoiser(nn.Module):
    """Text encoder and U-Net as one module, so that one optimizer and one checkpoint hold both."""

    def __init__(self, settings: DenoiserSettings, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder(tokenizer, settings.text_width, settings.text_layers)
        self.unet = UNet2DConditionModel(
            sample_size=32,
            in_channels=settings.channels,
            out_channels=settings.channels,
            block_out_channels=settings.widths,
            layers_per_block=settings.layers,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=settings.text_width,
            attention_head_dim=4,
            norm_num_groups=16,
        )

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        text = self.text_encoder(tokens)[0]
        return self.unet(latents, timesteps, encoder_hidden_states=text).sample  # type: ignore[no-any-return]


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule, with velocity prediction."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids `(count, 32)`, padded as the diffusers pipelines pad."""
    padded = tokenizer(captions, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt")
    return padded["input_ids"]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Latents:
    """What is trained on, of pictures of one shape."""

    means: Tensor
    """`(count, channels, height / 8, width / 8)`, unscaled."""
    deviation: Tensor
    """`(channels,)`: of the posterior."""
    tokens: Tensor
    """`(count, wordings, 32)`."""
    details: Tensor
    """Bool `(count, height / 8, width / 8)`: where errors count for more."""

    def to(self, device: torch.device) -> Latents:
        """The same on a device."""
        return Latents(*(each.to(device) for each in (self.means, self.deviation, self.tokens, self.details)))


@dataclass(frozen=True)
class Batch:
    """What one step is trained on."""

    clean: Tensor
    """`(batch, channels, height, width)`, scaled."""
    noise: Tensor
    tokens: Tensor
    """`(batch, 32)`; those of the empty caption where it was dropped."""
    places: Tensor
    """`(batch,)` in 0…1, one from each of as many equal slices: less variance than independent draws."""
    details: Tensor
    """`(batch, height, width)`, 1 where errors count for more."""


class Batches:
    """Draws the batch of a step, all of one shape, on the device."""

    def __init__(
        self,
        data: Sequence[Latents],
        tokenizer: CLIPTokenizer,
        scaling_factor: float,
        count: int,
        caption_dropout: float,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        self._seed = seed * 10**9
        self._data = [each.to(device) for each in data]
        self._shares = torch.tensor([float(len(each.means)) for each in data])
        self._empty = tokenize(tokenizer, [""])[0].to(device)
        self._scaling_factor, self._count, self._dropout, self._device = scaling_factor, count, caption_dropout, device

    def __call__(self, step: int) -> Batch:
        seed = self._seed + step
        lot = self._data[int(torch.multinomial(self._shares, 1, generator=torch.Generator().manual_seed(seed)))]
        drawn: dict[str, Any] = {
            "generator": torch.Generator(self._device).manual_seed(seed),
            "device": self._device,
        }
        count = self._count
        rows = torch.randint(len(lot.means), (count,), **drawn)
        wording = torch.randint(lot.tokens.shape[1], (count,), **drawn)
        dropped = torch.rand(count, **drawn) < self._dropout
        tokens = torch.where(dropped[:, None], self._empty, lot.tokens[rows, wording])
        jitter = torch.randn(lot.means[rows].shape, **drawn)
        clean = (lot.means[rows].float() + lot.deviation[:, None, None] * jitter) * self._scaling_factor
        noise = torch.randn(clean.shape, **drawn)
        places = (torch.arange(count, device=self._device) + torch.rand(count, **drawn)) / count
        return Batch(clean, noise, tokens, places, lot.details[rows].float())


@torch.no_grad()
def adopt_words(
    encoder: CLIPTextModel, tokenizer: CLIPTokenizer, known: CLIPTextModel, known_tokenizer: CLIPTokenizer
) -> None:
    """Give the tokens of another vocabulary what they had there, whatever their numbers are."""
    ours, theirs = tokenizer.get_vocab(), known_tokenizer.get_vocab()
    weights, source = encoder.get_input_embeddings().weight, known.get_input_embeddings().weight
    for token, number in ours.items():
        if token in theirs:
            weights[number] = source[theirs[token]]


def train_denoiser(
    data: Sequence[Latents],
    tokenizer: CLIPTokenizer,
    scaling_factor: float,
    settings: DenoiserSettings,
    checkpoint: Path,
    device: torch.device,
    dtype: torch.dtype,
    report: Callable[[str], None] = print,
    checkpoint_every: int = 250,
    on_checkpoint: Callable[[int, nn.Module], None] | None = None,
    warm_start: Path | None = None,
    compiled: bool = False,
) -> Denoiser:
    """The trained text encoder and U-Net (their moving average).

    The pictures of a batch have one shape.  `warm_start`: a diffusers folder to begin from; where its vocabulary or its
    latents are others, all begins from it that agrees.
    """
    torch.manual_seed(1)
    model = Denoiser(settings, tokenizer)
    if warm_start is not None:
        known = CLIPTextModel.from_pretrained(warm_start / "text_encoder")
        missing = adopt(model.text_encoder, known)
        missing += adopt(model.unet, UNet2DConditionModel.from_pretrained(warm_start / "unet"))
        adopt_words(model.text_encoder, tokenizer, known, CLIPTokenizer.from_pretrained(warm_start / "tokenizer"))
        if missing:
            report(f"begun from {warm_start}, but for {', '.join(missing)}")
    model = model.to(device)
    model.unet.to(memory_format=torch.channels_last)
    if device.type == "cpu":
        model.unet.set_attn_processor(AttnProcessor())  # its backward pass is several times as fast as the fused one's
    if compiled:
        compile_blocks(model)
    scheduler = build_scheduler()
    alphas = scheduler.alphas_cumprod.to(device)
    scheduler.alphas_cumprod = alphas
    batches = Batches(data, tokenizer, scaling_factor, settings.batch, settings.caption_dropout, device, settings.seed)

    def step_loss(step: int) -> Tensor:
        batch = batches(step)
        timesteps = (batch.places * len(alphas)).long()
        noisy = scheduler.add_noise(batch.clean, batch.noise, timesteps)
        velocity = scheduler.get_velocity(batch.clean, batch.noise, timesteps)
        output = model(noisy, timesteps, batch.tokens).float()
        signal_to_noise = alphas[timesteps] / (1.0 - alphas[timesteps])
        weight = signal_to_noise.clamp(max=settings.snr_gamma) / (signal_to_noise + 1.0)
        near = batch.details * alphas[timesteps][:, None, None]
        attention = 1.0 + settings.detail_weight * near
        error = (output - velocity).square().mean(dim=1) * attention
        return (error.mean(dim=(1, 2)) * weight).mean() / weight.mean()

    schedule = Schedule(
        settings.steps,
        settings.learning_rate,
        average=0.999,
        checkpoint_every=min(checkpoint_every, settings.steps),
        muon=settings.muon,
    )
    return train(model, step_loss, schedule, checkpoint, device, dtype, report, on_checkpoint)  # type: ignore[return-value]
