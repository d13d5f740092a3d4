"""The operations that a VAE's encoder or decoder is made of, each able to work on one tile of its feature map.

An operation tells which region of its input a region of its output needs (the halo), and computes that region by
calling the model's own module.  A convolution then sees its zero padding also at the inner edges of a tile; the
outputs that saw it lie outside of the wanted region and are cut off.
Sizes are (height, width); tiles are `(1, channels, height, width)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .regions import Interval, Region, Size

CONVOLUTION_COST = 2
"""Floating point operations of a multiply and add."""
ELEMENT_COST = 150
"""What touching one number costs in them: memory is slow (measured on a CPU; the ratio counts)."""


@dataclass(frozen=True)
class Operation(ABC):
    """One step from feature map to feature map.  `name` is the module path inside the encoder or decoder."""

    name: str

    in_place = False
    """Whether the tile that is given becomes the result."""

    def channels(self, given: int) -> int:
        """Channels that leave, for those that enter."""
        return given

    def size(self, given: Size) -> Size:
        """Size of the map that leaves, for the one that enters."""
        return given

    def needs(self, wanted: Region, given: Size) -> Region:  # noqa: ARG002
        """The region of the entering map, of size `given`, that the wanted region of the leaving map depends on."""
        return wanted

    @abstractmethod
    def run(self, tile: Tensor, covers: Region, wanted: Region) -> Tensor:
        """The wanted region of the leaving map, from a tile that covers what `needs` returned; may overwrite it."""

    def cost(self, channels: int) -> float:
        """Work for each pixel that leaves, in floating point operations."""
        return ELEMENT_COST * channels

    def spare(self) -> float:
        """Memory needed beside input and output, as a fraction of the output."""
        return 0.0


@dataclass(frozen=True)
class Convolution(Operation):
    """A convolution with zero padding; `module` is what is called: the convolution, or a sampler that pads its end."""

    convolution: nn.Conv2d
    module: nn.Module
    end_padding: int = 0
    """Zeros that `module` adds below and to the right before it calls the convolution."""

    def channels(self, given: int) -> int:  # noqa: ARG002
        return self.convolution.out_channels

    def size(self, given: Size) -> Size:
        height, width = (self._length(given[axis], axis) for axis in (0, 1))
        return height, width

    def needs(self, wanted: Region, given: Size) -> Region:
        return Region(self._span(wanted.rows, given[0], 0), self._span(wanted.columns, given[1], 1))

    def run(self, tile: Tensor, covers: Region, wanted: Region) -> Tensor:
        vertical, horizontal = self.convolution.stride
        produced = Region(
            (covers.rows[0] // vertical, wanted.rows[1]), (covers.columns[0] // horizontal, wanted.columns[1])
        )
        rows, columns = wanted.inside(produced)
        output: Tensor = self.module(tile)
        return output[:, :, rows, columns]

    def cost(self, channels: int) -> float:  # noqa: ARG002
        kernel = self.convolution.weight.shape[1] * self._reach(0) * self._reach(1)
        return self.convolution.out_channels * (CONVOLUTION_COST * kernel + ELEMENT_COST)

    def _reach(self, axis: int) -> int:
        return int(self.convolution.kernel_size[axis])

    def _padding(self, axis: int) -> int:
        padding = self.convolution.padding[axis]
        assert isinstance(padding, int)
        return padding

    def _extent(self, axis: int) -> int:
        return int(self.convolution.dilation[axis]) * (self._reach(axis) - 1) + 1

    def _length(self, given: int, axis: int) -> int:
        padded = given + 2 * self._padding(axis) + self.end_padding
        return (padded - self._extent(axis)) // int(self.convolution.stride[axis]) + 1

    def _span(self, wanted: Interval, given: int, axis: int) -> Interval:
        stride, padding = int(self.convolution.stride[axis]), self._padding(axis)
        first = max(wanted[0] * stride - padding, 0)
        last = (wanted[1] - 1) * stride - padding + self._extent(axis)
        return first // stride * stride, min(last, given)  # begins where an output begins


@dataclass(frozen=True)
class Enlargement(Operation):
    """Nearest-neighbour enlargement by a whole factor."""

    factor: int

    def size(self, given: Size) -> Size:
        return given[0] * self.factor, given[1] * self.factor

    def needs(self, wanted: Region, given: Size) -> Region:  # noqa: ARG002
        return Region(self._span(wanted.rows), self._span(wanted.columns))

    def run(self, tile: Tensor, covers: Region, wanted: Region) -> Tensor:
        return enlarged(tile, self.factor)[(slice(None), slice(None), *wanted.inside(_grown(covers, self.factor)))]

    def _span(self, wanted: Interval) -> Interval:
        return wanted[0] // self.factor, -(-wanted[1] // self.factor)


@dataclass(frozen=True)
class EnlargedConvolution(Operation):
    """Nearest-neighbour enlargement by 2, then a 3×3 convolution: together, so that the enlarged map never exists.

    Each of the four positions inside an enlarged pixel sees only 2×2 different pixels, so the 3×3 kernel becomes four
    2×2 kernels (sums of its taps): the same result within rounding, for 4/9 of the arithmetic.
    """

    convolution: nn.Conv2d

    def channels(self, given: int) -> int:  # noqa: ARG002
        return self.convolution.out_channels

    def size(self, given: Size) -> Size:
        return 2 * given[0], 2 * given[1]

    def needs(self, wanted: Region, given: Size) -> Region:
        return Region(self._span(wanted.rows, given[0]), self._span(wanted.columns, given[1]))

    def run(self, tile: Tensor, covers: Region, wanted: Region) -> Tensor:
        inside = wanted.inside(_grown(covers, 2))
        if is_bare(self.convolution):
            return enlarged_convolution(tile, self.convolution, *inside)
        output: Tensor = self.convolution(enlarged(tile, 2))
        return output[(slice(None), slice(None), *inside)]

    def cost(self, channels: int) -> float:
        return self.convolution.out_channels * (CONVOLUTION_COST * 4 * channels + 2 * ELEMENT_COST)

    def spare(self) -> float:
        return 0.25

    def _span(self, wanted: Interval, given: int) -> Interval:
        return max(wanted[0] - 1, 0) // 2, min(wanted[1] // 2 + 1, given)


@dataclass(frozen=True)
class Pointwise(Operation):
    """A module that treats every number alone: an activation."""

    module: nn.Module

    in_place = True

    def run(self, tile: Tensor, covers: Region, wanted: Region) -> Tensor:  # noqa: ARG002
        if isinstance(self.module, nn.SiLU):
            return F.silu(tile, inplace=True)
        if isinstance(self.module, nn.ReLU):
            return tile.relu_()
        output: Tensor = self.module(tile)
        return output


@dataclass(frozen=True)
class Normalisation(Operation):
    """Group normalisation, whose statistics are those of the whole map: whoever runs the tiles supplies them."""

    norm: nn.GroupNorm

    in_place = True

    def run(self, tile: Tensor, covers: Region, wanted: Region) -> Tensor:
        raise NotImplementedError("group normalisation needs the statistics of the whole map")


@dataclass(frozen=True)
class Residual(Operation):
    """The start of a residual branch: the shortcut from here is added at the next `Addition`."""

    shortcut: nn.Module | None
    width: int
    """Channels of the shortcut."""

    in_place = True

    def run(self, tile: Tensor, covers: Region, wanted: Region) -> Tensor:
        """The shortcut's value; the tile itself goes on."""
        rows, columns = wanted.inside(covers)
        if self.shortcut is None:
            return tile[:, :, rows, columns].clone(memory_format=torch.preserve_format)
        output: Tensor = self.shortcut(tile)  # all of it: a piece would be copied first
        return output[:, :, rows, columns]

    def cost(self, channels: int) -> float:
        work = CONVOLUTION_COST * channels if self.shortcut is not None else 0
        return self.width * (work + ELEMENT_COST)


@dataclass(frozen=True)
class Addition(Operation):
    """The end of a residual branch; the sum is divided by `divisor`."""

    divisor: float = 1.0

    in_place = True

    def run(self, tile: Tensor, covers: Region, wanted: Region) -> Tensor:
        raise NotImplementedError("an addition needs the residual branch")


@dataclass(frozen=True)
class Attention(Operation):
    """Self-attention over the whole map: a wall between tiles, run by `global_attention`."""

    module: Any

    needs_statistics = True
    """Whether a group normalisation comes before it."""

    def run(self, tile: Tensor, covers: Region, wanted: Region) -> Tensor:
        raise NotImplementedError("attention needs the whole map")


def is_bare(module: nn.Module) -> bool:
    """Whether calling a module is nothing but its own mathematics, so that its weights may be used directly."""
    return type(module) is nn.Conv2d and is_untouched(module)


def is_untouched(module: nn.Module) -> bool:
    """Whether nothing has been put on a module: no hook, and no call in the place of its own."""
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__
    return not hooked and "_conv_forward" not in module.__dict__


def enlarged(values: Tensor, factor: int) -> Tensor:
    """Nearest-neighbour enlargement of `(batch, channels, height, width)`."""
    return F.interpolate(values, scale_factor=float(factor), mode="nearest")


def enlarged_convolution(values: Tensor, convolution: nn.Conv2d, rows: slice, columns: slice) -> Tensor:
    """Some rows and columns of `convolution(enlarged(values, 2))`, for a 3×3 kernel with padding 1.

    The enlarged map is never made; nor is the result outside of `rows` and `columns`.
    """
    last = values.is_contiguous(memory_format=torch.channels_last)
    output = torch.empty(
        (len(values), convolution.out_channels, rows.stop - rows.start, columns.stop - columns.start),
        dtype=values.dtype,
        device=values.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )
    weight = convolution.weight.float()
    for vertical in (0, 1):
        half = _two_taps(weight, vertical, axis=2)
        to_rows, from_rows = _every_second(rows, vertical)
        for horizontal in (0, 1):
            kernel = _two_taps(half, horizontal, axis=3).to(values.dtype)
            to_columns, from_columns = _every_second(columns, horizontal)
            phase = F.conv2d(values, kernel, convolution.bias, padding=1)
            output[:, :, to_rows, to_columns] = phase[:, :, from_rows, from_columns]
            del phase  # before the next one is made
    return output


def _every_second(wanted: slice, position: int) -> tuple[slice, slice]:
    """Where in the wanted rows those at one place inside an enlarged pixel lie, and where in the 2×2 convolution."""
    first, last = (-(-(end - position) // 2) for end in (wanted.start, wanted.stop))  # of the pixels themselves
    return slice(2 * first + position - wanted.start, None, 2), slice(first + position, last + position)


def _two_taps(kernel: Tensor, position: int, axis: int) -> Tensor:
    """Three taps on enlarged pixels as two on the pixels themselves, at the first or second place inside a pixel."""
    first, middle, last = kernel.unbind(axis)
    return torch.stack((first, middle + last) if position == 0 else (first + middle, last), dim=axis)


def _grown(region: Region, factor: int) -> Region:
    rows, columns = region.rows, region.columns
    return Region((rows[0] * factor, rows[1] * factor), (columns[0] * factor, columns[1] * factor))
