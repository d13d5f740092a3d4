"""Latents as maps, and as the tokens that transformers' pipelines hold: each with 2×2 latent pixels."""

from __future__ import annotations

from torch import Tensor

from .._util.sizes import GridSize


def as_maps(latents: Tensor, size: GridSize) -> Tensor:
    """What a pipeline's call returns, or hands to a callback, as maps of `size` latent pixels."""
    if latents.ndim == 5:
        return latents.squeeze(2)
    return unpacked(latents, size) if latents.ndim == 3 else latents


def patches(latents: Tensor) -> Tensor:
    """`(batch, channels, height, width)` as `(batch, 4 channels, height / 2, width / 2)`."""
    batch, channels, height, width = latents.shape
    split = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return split.permute(0, 1, 3, 5, 2, 4).reshape(batch, 4 * channels, height // 2, width // 2)


def packed(latents: Tensor) -> Tensor:
    """`(batch, channels, height, width)` as tokens `(batch, height · width / 4, 4 channels)`."""
    return patches(latents).flatten(2).transpose(1, 2)


def unpacked(tokens: Tensor, size: GridSize) -> Tensor:
    """The inverse of `packed`; `size` is that of the latents."""
    batch, _, channels = tokens.shape
    height, width = size.height // 2, size.width // 2
    split = tokens.transpose(1, 2).reshape(batch, channels // 4, 2, 2, height, width)
    return split.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels // 4, 2 * height, 2 * width)
