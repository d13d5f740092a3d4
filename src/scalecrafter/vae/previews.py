"""Small pictures of latents while they are being denoised, for progress displays: cheap, and only roughly right.

Latents of most VAEs are nearly a small picture already: each RGB value is about a weighted sum of the channels
at its place.  The weights are fitted once per VAE, by least squares over what it decodes itself.  An AutoencoderTiny
is cheap enough to decode.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from .latents import decoded, latent_channels

_SIDE = 16
"""Latent pixels a side of what the weights are fitted on: 256 equations for some five unknowns."""
_FITTED: weakref.WeakKeyDictionary[Any, Tensor] = weakref.WeakKeyDictionary()


def preview(vae: Any, latents: Tensor) -> Image.Image:
    """A small RGB picture of latents.

    Args:
        vae: any that pictures are decoded with.
        latents: `(batch, channels, height, width)` as the denoiser sees them; the first sample is shown.

    Returns:
        `width`×`height` pixels, for AutoencoderTiny the full size.
    """
    with torch.no_grad():
        sample = latents[:1].detach()
        if isinstance(getattr(vae.decoder, "layers", None), nn.Module):  # AutoencoderTiny
            return _picture(decoded(vae, sample)[0].float())
        weights = latent_colours(vae).to(sample.device)
        values = _with_one(sample.float()[0].flatten(1).T)
        return _picture((values @ weights).T.view(3, *sample.shape[-2:]))


def latent_colours(vae: Any) -> Tensor:
    """`(channels + 1, 3)` in float32: RGB in −1…1 of the channels of latents, and a constant; fitted once per VAE."""
    weights = _FITTED.get(vae)
    if weights is None:
        weights = _FITTED[vae] = _fit(vae)
    return weights


def _fit(vae: Any) -> Tensor:
    channels = latent_channels(vae)
    generator = torch.Generator().manual_seed(0)
    fine, coarse = (torch.randn((1, channels, side, side), generator=generator) for side in (_SIDE, max(_SIDE // 4, 1)))
    latents = (fine + 2 * F.interpolate(coarse, size=(_SIDE, _SIDE), mode="bicubic")) / 5**0.5
    with torch.no_grad():
        pixels = decoded(vae, latents.to(vae.device)).float().cpu()
    wanted = F.adaptive_avg_pool2d(pixels, _SIDE)[0].flatten(1).T
    solution: Tensor = torch.linalg.lstsq(_with_one(latents[0].flatten(1).T), wanted).solution
    return solution


def _with_one(values: Tensor) -> Tensor:
    return torch.cat((values, values.new_ones((len(values), 1))), dim=1)


def _picture(pixels: Tensor) -> Image.Image:
    """RGB in −1…1, `(3, height, width)`, as a picture."""
    bytes_ = (pixels.nan_to_num().clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    return Image.fromarray(bytes_.permute(1, 2, 0).cpu().contiguous().numpy())


class WithPreviews:
    """A progress callback that also shows the latents of each step: `generate(pipe, request, WithPreviews(…))`.

    Args:
        progress: called with (steps done, all steps).
        vae: whose latents they are.
        show: called with a small picture after each step.
    """

    def __init__(self, progress: Callable[[int, int], None], vae: Any, show: Callable[[Image.Image], None]) -> None:
        self._progress, self._vae, self._show = progress, vae, show

    def __call__(self, step: int, total: int) -> None:
        self._progress(step, total)

    def show(self, latents: Tensor) -> None:
        """Show latents `(batch, channels, height, width)`."""
        self._show(preview(self._vae, latents))
