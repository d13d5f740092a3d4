"""FreeScale's two mixtures: latents over the steps, and attention over frequencies.

Paper: Qiu et al. 2024 (arXiv 2412.09626), section 3.  Where the paper leaves a choice, the authors' code decides
(ali-vilab/FreeScale): which half of the frequencies comes from where, and that their low pass goes over channels too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import cos, pi

import torch
import torch.nn.functional as F
from torch import Tensor

from .._util.sizes import GridSize

Draw = Callable[[int, int], int]
"""A whole number from the first to the second, both included, at random."""
Rectangle = tuple[slice, slice]
"""Rows and columns."""


def cosine_weight(timestep: float, num_train_timesteps: int, power: float) -> float:
    """The share of the enlarged, noised picture in the latents at a timestep: 1 at the noisiest, 0 at the end.

    ((1 + cos(π (T − t) / T)) / 2) ^ power; the larger the power, the sooner the model goes its own way.
    """
    return float((0.5 * (1 + cos(pi * (1 - timestep / num_train_timesteps)))) ** power)


def overlapping_windows(grid: GridSize, window: GridSize, draw: Draw) -> tuple[list[Rectangle], GridSize]:
    """Windows half of their side apart, shifted at random by up to an eighth of it: at the edges outwards.

    Args:
        grid: tokens (height, width).
        window: tokens of a window, no more than those of the grid.
        draw: the shifts; called for columns and then rows, where the window is not as wide or high as the grid.

    Returns:
        The windows, and the margin on each side that the grid is padded with: they count from its corner.
    """
    margin = GridSize(window.height // 8, window.width // 8)
    starts = [_starts(*axis) for axis in zip(grid, window, strict=True)]
    found = []
    for top, left in itertools.product(*starts):
        across = _shift(left, grid.width - window.width, margin.width, draw)
        down = _shift(top, grid.height - window.height, margin.height, draw)
        row, column = top + down + margin.height, left + across + margin.width
        found.append((slice(row, row + window.height), slice(column, column + window.width)))
    return found, margin


def _starts(length: int, window: int) -> list[int]:
    stride = max(window // 2, 1)
    return [*range(0, length - window, stride), length - window]


def _shift(start: int, last: int, reach: int, draw: Draw) -> int:
    """Into the margin alone for a window at an edge; none for one from edge to edge."""
    if last == 0:
        return 0
    return (
        draw(0 if start == last else -reach, 0 if start == 0 else reach) if start in (0, last) else draw(-reach, reach)
    )


def low_pass(features: Tensor, size: int, sigma: float = 1.0) -> Tensor:
    """A Gaussian of `size` taps a side over rows, columns and channels, zeros beyond the edges.

    Args:
        features: `(batch, height, width, channels)`.
        size: odd.
        sigma: in tokens and channels.
    """
    taps = torch.arange(size, dtype=torch.float32) - size // 2
    kernel = torch.exp(-(taps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(features.device, features.dtype)
    out = features[:, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = size
        padding = [size // 2 if other == axis else 0 for other in range(3)]
        out = F.conv3d(out, kernel.reshape(shape), padding=padding)
    return out[:, 0]


def fused_attention(
    attend: Callable[[Tensor], Tensor], tokens: Tensor, whole: Tensor, grid: GridSize, window: GridSize, scale: int,
    draw: Draw,
) -> Tensor:  # fmt: skip
    """The low frequencies of attention in windows, and the high ones of attention over all tokens.

    Args:
        attend: self-attention of `(batch, tokens, channels)`.
        tokens: its input `(batch, height · width, channels)`.
        whole: its output for all tokens.
        grid: height and width.
        window: tokens of a window, as `overlapping_windows`.
        scale: how many times the native side the grid is; the low pass has 2 · scale − 1 taps.
        draw: as `overlapping_windows`.

    Returns:
        `(batch, height · width, channels)`.
    """
    places, margin = overlapping_windows(grid, window, draw)
    batch, _, channels = tokens.shape
    padded = F.pad(
        tokens.reshape(batch, *grid, channels), (0, 0, margin.width, margin.width, margin.height, margin.height)
    )
    total, count = torch.zeros_like(padded), padded.new_zeros(padded.shape[1:3])
    for rows, columns in places:
        local = padded[:, rows, columns]
        total[:, rows, columns] += attend(local.flatten(1, 2)).reshape(local.shape)
        count[rows, columns] += 1
    inside = slice(margin.height, margin.height + grid.height), slice(margin.width, margin.width + grid.width)
    windowed = total[:, *inside] / count[inside].clamp(min=1)[..., None]
    everywhere = whole.reshape(batch, *grid, channels)
    taps = 2 * scale - 1
    fused = low_pass(windowed, taps) + (everywhere - low_pass(everywhere, taps))
    return fused.flatten(1, 2)
