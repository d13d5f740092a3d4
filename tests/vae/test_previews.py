"""Previews of latents: small, cheap, and of the right colours."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from scalecrafter.generation.generate import generate
from scalecrafter.models.loading import load_pipeline
from scalecrafter.request.request import Request
from scalecrafter.vae.previews import WithPreviews, latent_colours, preview
from tests.support.tiny_models import tiny_sd_pipeline
from tests.support.vaes import noise, tiny_autoencoder


def test_a_preview_is_near_to_the_decoded_picture_made_small() -> None:
    """On the embedded model, whose latents a fitted map must explain far better than their mean does."""
    vae = load_pipeline("critters", dtype="fp32", device="cpu").vae
    latents = F.interpolate(noise(1, vae.config.latent_channels, 6, 6, seed=8), size=(24, 24), mode="bicubic")
    with torch.no_grad():
        pixels = vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)
    small = F.adaptive_avg_pool2d(pixels, 24)[0]
    shown = torch.tensor(list(preview(vae, latents).tobytes())).view(24, 24, 3).permute(2, 0, 1) / 127.5 - 1
    error = (shown - small).square().mean()
    assert error < 0.25 * small.var()


def test_the_map_is_fitted_once_per_vae() -> None:
    vae = tiny_sd_pipeline().vae
    calls: list[int] = []
    handle = vae.decoder.register_forward_hook(lambda *_: calls.append(1))
    first = latent_colours(vae)
    assert latent_colours(vae) is first
    preview(vae, noise(2, 4, 10, 12))
    handle.remove()
    assert calls == [1]
    assert first.shape == (5, 3)


def test_previews_have_the_size_of_the_latents_or_of_the_tiny_decoders_picture() -> None:
    assert preview(tiny_sd_pipeline().vae, noise(1, 4, 10, 12)).size == (12, 10)
    assert preview(tiny_autoencoder(), noise(1, 4, 10, 12)).size == (96, 80)


def test_every_step_shows_a_preview() -> None:
    pipe = tiny_sd_pipeline()
    request = Request.from_mapping({"prompt": "a fox", "steps": 3, "seed": 1, "width": 128, "height": 128})
    exact = generate(pipe, request).image.tobytes()
    shown: list[Image.Image] = []
    steps: list[Any] = []
    progress = WithPreviews(lambda *step: steps.append(step), pipe.vae, shown.append)
    assert generate(pipe, request, progress).image.tobytes() == exact
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert [picture.size for picture in shown] == [(16, 16)] * 3
