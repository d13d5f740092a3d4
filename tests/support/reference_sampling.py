"""DDIM with guidance, image to image and the VAE, in the plainest way: what the methods are compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor

PROMPT = "a blue fox"
Predict = Callable[[Tensor, int, Tensor], Tensor]
"""From (both halves of the guided batch, index in the table, text embeddings) to what the U-Net predicts."""


def embeddings(pipe: Any) -> Tensor:
    """(2, tokens, channels): without the prompt, and with it."""
    positive, negative = pipe.encode_prompt(PROMPT, "cpu", 1, True)
    return torch.cat([negative, positive])


def table(pipe: Any, steps: int) -> list[int]:
    """The timesteps of a run of `steps`."""
    ratio = pipe.scheduler.config.num_train_timesteps // steps
    return [index * ratio + pipe.scheduler.config.steps_offset for index in reversed(range(steps))]


def noised(pipe: Any, latents: Tensor, noise: Tensor, timestep: int) -> Tensor:
    """Clean latents with the noise of a timestep."""
    kept = float(pipe.scheduler.alphas_cumprod[timestep])
    return math.sqrt(kept) * latents + math.sqrt(1 - kept) * noise


def ddim_step(pipe: Any, prediction: Tensor, latents: Tensor, index: int, steps: int) -> Tensor:
    """DDIM with eta 0 (Song et al. 2021, equation 12), for a model of noise or of velocity."""
    timesteps, alphas = table(pipe, steps), pipe.scheduler.alphas_cumprod
    now = float(alphas[timesteps[index]])
    before = timesteps[index] - pipe.scheduler.config.num_train_timesteps // steps
    then = float(alphas[max(before, 0)])
    if pipe.scheduler.config.prediction_type == "v_prediction":
        clean = math.sqrt(now) * latents - math.sqrt(1 - now) * prediction
        noise = math.sqrt(now) * prediction + math.sqrt(1 - now) * latents
    else:
        noise = prediction
        clean = (latents - math.sqrt(1 - now) * noise) / math.sqrt(now)
    return math.sqrt(then) * clean + math.sqrt(1 - then) * noise


def guided(pipe: Any, predict: Predict, latents: Tensor, index: int, guidance: float) -> Tensor:
    """Classifier-free guidance."""
    without, with_prompt = predict(torch.cat([latents, latents]), index, embeddings(pipe)).chunk(2)
    return without + guidance * (with_prompt - without)


def denoised(
    pipe: Any, latents: Tensor, steps: int, guidance: float, first: int = 0, predict: Predict | None = None
) -> Tensor:
    """Latents at the end of the table, from those at its entry `first`."""
    predict = predict or plain(pipe, steps)
    for index in range(first, steps):
        latents = ddim_step(pipe, guided(pipe, predict, latents, index, guidance), latents, index, steps)
    return latents


def plain(pipe: Any, steps: int) -> Predict:
    """The U-Net as it is."""
    return lambda x, index, text: pipe.unet(x, table(pipe, steps)[index], encoder_hidden_states=text).sample


def decoded(pipe: Any, latents: Tensor) -> Image.Image:
    """The 8-bit picture of latents."""
    pixels = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample[0]
    scaled = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0)
    return Image.fromarray(scaled.to(torch.uint8).numpy())


def encoded(pipe: Any, image: Image.Image, generator: torch.Generator) -> Tensor:
    """Latents of a picture, drawn from what the VAE's encoder says."""
    pixels = torch.tensor(list(image.tobytes()), dtype=torch.float32).reshape(image.height, image.width, 3)
    said = pipe.vae.encode(2 * (pixels / 255).permute(2, 0, 1)[None] - 1).latent_dist
    return pipe.vae.config.scaling_factor * (said.mean + said.std * torch.randn(said.mean.shape, generator=generator))


def largest_difference(one: Image.Image, other: Image.Image) -> int:
    """In grey levels of 0…255, over all pixels and channels."""
    assert one.size == other.size
    first, second = (torch.tensor(list(image.tobytes()), dtype=torch.int16) for image in (one, other))
    return int((first - second).abs().max())
