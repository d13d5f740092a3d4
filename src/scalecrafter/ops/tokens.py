"""Self-attention over fewer tokens: in windows, in phases, or with pooled keys and values.

Tokens are `(batch, height · width, channels)` in rows of a grid.  Windows cut the grid into rectangles; phases take
every n-th row and column, so that each phase is the whole map at a coarser step.  Both make n · m small batches of one.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .._util.sizes import GridSize

Cut = Literal["windows", "phases"]


def split_tokens(
    tokens: Tensor, grid: GridSize, parts: tuple[int, int], cut: Cut, shift: tuple[int, int] = (0, 0)
) -> Tensor:
    """The parts of a grid as samples of their own; `join_tokens` is the inverse.

    Source of windows that shift: Zhang et al. 2024 (HiDiffusion, arXiv 2311.17528), section 3.4.

    Args:
        tokens: `(batch, height · width, channels)`.
        grid: height and width.
        parts: how many rows and columns of parts.  Where a side is no multiple, its beginning is repeated at its end.
        cut: "windows" or "phases".
        shift: rows and columns that the grid is rolled up and to the left first.

    Returns:
        `(batch · parts, tokens of a part, channels)`, the parts of a sample side by side.
    """
    height, width = _padded(grid, parts)
    batch, _, channels = tokens.shape
    maps = tokens.reshape(batch, *grid, channels)
    if any(shift):
        maps = maps.roll((-shift[0], -shift[1]), (1, 2))
    for axis, missing in ((1, height - grid.height), (2, width - grid.width)):
        if missing:
            maps = torch.cat([maps, maps.narrow(axis, 0, missing)], dim=axis)
    rows, columns = parts
    down, across = height // rows, width // columns
    if cut == "windows":
        split = maps.reshape(batch, rows, down, columns, across, channels).permute(0, 1, 3, 2, 4, 5)
    else:
        split = maps.reshape(batch, down, rows, across, columns, channels).permute(0, 2, 4, 1, 3, 5)
    return split.reshape(batch * rows * columns, down * across, channels)


def join_tokens(
    split: Tensor, grid: GridSize, parts: tuple[int, int], cut: Cut, shift: tuple[int, int] = (0, 0)
) -> Tensor:
    """Tokens `(batch, height · width, channels)` of the parts that `split_tokens` makes with the same arguments."""
    height, width = _padded(grid, parts)
    rows, columns = parts
    down, across = height // rows, width // columns
    batch, channels = split.shape[0] // (rows * columns), split.shape[-1]
    maps = split.reshape(batch, rows, columns, down, across, channels)
    maps = maps.permute(0, 1, 3, 2, 4, 5) if cut == "windows" else maps.permute(0, 3, 1, 4, 2, 5)
    maps = maps.reshape(batch, height, width, channels)[:, : grid.height, : grid.width]
    if any(shift):
        maps = maps.roll(shift, (1, 2))
    return maps.reshape(batch, -1, channels)


def pooled_tokens(tokens: Tensor, grid: GridSize, factor: int = 2) -> Tensor:
    """The means of `factor` × `factor` tokens, for keys and values.

    Source: Smith et al. 2024 (ToDo, arXiv 2402.13573), section 3, which takes one of them rather than the mean.

    Args:
        tokens: `(batch, height · width, channels)`.
        grid: height and width.
        factor: tokens of a side that become one; the last ones of a side may be fewer.

    Returns:
        `(batch, ceil(height / factor) · ceil(width / factor), channels)`.
    """
    maps = tokens.reshape(tokens.shape[0], *grid, tokens.shape[2]).permute(0, 3, 1, 2)
    return F.avg_pool2d(maps, factor, ceil_mode=True).flatten(2).transpose(1, 2)


def _padded(grid: GridSize, parts: tuple[int, int]) -> tuple[int, int]:
    height, width = (-(-side // count) * count for side, count in zip(grid, parts, strict=True))
    return height, width
