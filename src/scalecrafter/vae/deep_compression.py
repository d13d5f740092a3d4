"""The operations that AutoencoderDC (Sana's; Chen et al. 2024, arXiv 2410.10733) has beside convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .operations import CONVOLUTION_COST, ELEMENT_COST, Attention, Operation
from .regions import Interval, Region, Size


class Repeat(nn.Module):
    """Each channel so many times: the shortcut into the decoder."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._times = times

    def forward(self, tile: Tensor) -> Tensor:
        """Of `(1, channels, height, width)`."""
        return tile.repeat_interleave(self._times, dim=1)


class GroupMean(nn.Module):
    """The means of so many channels at a time: the shortcut out of the encoder."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def forward(self, tile: Tensor) -> Tensor:
        """Of `(1, channels, height, width)`."""
        return torch.unflatten(tile, 1, (-1, self._size)).mean(dim=2)


@dataclass(frozen=True)
class Gate(Operation):
    """The first half of the channels times the activation of the second."""

    activation: nn.Module

    def channels(self, given: int) -> int:
        return given // 2

    def run(self, tile: Tensor, covers: Region, wanted: Region) -> Tensor:  # noqa: ARG002
        values, gate = tile.chunk(2, dim=1)
        output: Tensor = self.activation(gate).mul_(values)
        return output


@dataclass(frozen=True)
class Halving(Operation):
    """A block that halves the map, with a 3×3 convolution and a shortcut of its own."""

    module: Any

    def channels(self, given: int) -> int:  # noqa: ARG002
        return int(self.module.conv.out_channels) * (4 if self.module.downsample else 1)

    def size(self, given: Size) -> Size:
        return given[0] // 2, given[1] // 2

    def needs(self, wanted: Region, given: Size) -> Region:
        return Region(self._span(wanted.rows, given[0]), self._span(wanted.columns, given[1]))

    def run(self, tile: Tensor, covers: Region, wanted: Region) -> Tensor:
        (top, bottom), (left, right) = covers.rows, covers.columns
        made = Region((top // 2, bottom // 2), (left // 2, right // 2))
        output: Tensor = self.module(tile)
        return output[(slice(None), slice(None), *wanted.inside(made))]

    def cost(self, channels: int) -> float:
        return self.channels(channels) * (CONVOLUTION_COST * 9 * channels + 2 * ELEMENT_COST)

    def spare(self) -> float:
        return 2.0

    def _span(self, wanted: Interval, given: int) -> Interval:
        return max(2 * wanted[0] - 2, 0), min(2 * wanted[1] + 2, given)


@dataclass(frozen=True)
class Doubling(Operation):
    """A block that doubles the map, with a 3×3 convolution and a shortcut of its own."""

    module: Any

    def channels(self, given: int) -> int:  # noqa: ARG002
        return int(self.module.conv.out_channels) // (1 if self.module.interpolate else 4)

    def size(self, given: Size) -> Size:
        return 2 * given[0], 2 * given[1]

    def needs(self, wanted: Region, given: Size) -> Region:
        return Region(self._span(wanted.rows, given[0]), self._span(wanted.columns, given[1]))

    def run(self, tile: Tensor, covers: Region, wanted: Region) -> Tensor:
        (top, bottom), (left, right) = covers.rows, covers.columns
        made = Region((2 * top, 2 * bottom), (2 * left, 2 * right))
        output: Tensor = self.module(tile)
        return output[(slice(None), slice(None), *wanted.inside(made))]

    def cost(self, channels: int) -> float:
        kernel = 9 if self.module.interpolate else 9 / 4
        return self.channels(channels) * (CONVOLUTION_COST * kernel * channels + 2 * ELEMENT_COST)

    def spare(self) -> float:
        enlarged = self.module.conv.in_channels / self.channels(0) if self.module.interpolate else 1.0
        return enlarged + 1.0

    def _span(self, wanted: Interval, given: int) -> Interval:
        return max(wanted[0] // 2 - 1, 0), min((wanted[1] - 1) // 2 + 2, given)


@dataclass(frozen=True)
class LinearAttention(Attention):
    """Multi-scale attention without a softmax: what the whole map gives is one small matrix for each head."""

    needs_statistics = False

    @property
    def halo(self) -> int:
        """How far its depthwise convolutions see."""
        return max((block.proj_in.kernel_size[0] // 2 for block in self.module.to_qkv_multiscale), default=0)

    @property
    def width(self) -> int:
        """Channels of queries, keys and values at all scales together."""
        return int(3 * self.module.to_q.out_features * (1 + len(self.module.to_qkv_multiscale)))
