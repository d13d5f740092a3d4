"""Latents as a denoiser has them, and as a VAE decodes them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .._util.sizes import GridSize
from ..ops.packing import patches, unpacked


def latent_channels(vae: Any) -> int:
    """Channels of a VAE's latents."""
    return int(vae.config.get("latent_channels") or vae.config["z_dim"])


def decoded(vae: Any, latents: Tensor) -> Tensor:
    """Pixels `(batch, 3, height, width)`, about −1…1, of latents as a denoiser has them.

    As the pipelines of diffusers do it: scaled back by the VAE's config, or by the statistics of its batch norm.
    """
    config, latents = vae.config, latents.to(vae.dtype)
    mean, deviation = (config.get(name) for name in ("latents_mean", "latents_std"))
    norm = getattr(vae, "bn", None)
    if norm is not None:  # FLUX.2, by the four latent pixels of a token
        size = GridSize(latents.shape[-2], latents.shape[-1])
        deviations = (norm.running_var.view(1, -1, 1, 1) + config.batch_norm_eps).sqrt().to(latents)
        moved = patches(latents) * deviations + norm.running_mean.view(1, -1, 1, 1).to(latents)
        latents = unpacked(moved.flatten(2).transpose(1, 2), size)
    elif mean is not None and deviation is not None:
        deviations, means = (latents.new_tensor(values).view(1, -1, 1, 1) for values in (deviation, mean))
        latents = latents * deviations / (config.get("scaling_factor") or 1.0) + means
    else:
        latents = latents / config.scaling_factor
        if config.get("shift_factor"):
            latents = latents + config.shift_factor
    if not hasattr(vae, "clear_cache"):
        pixels: Tensor = vae.decode(latents, return_dict=False)[0]
        return pixels
    frames: Tensor = vae.decode(latents.unsqueeze(2), return_dict=False)[0]  # of videos
    return frames.squeeze(2)
