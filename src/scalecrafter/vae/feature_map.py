"""A feature map that is stored between two sweeps, in bands of rows, so that used rows can be freed.

Bands are made when they are first written and dropped once a sweep has passed them; while one map is read from top to
bottom and the next one written, their sum stays about the size of the larger one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .regions import Region, Size

BAND_BYTES = 33 << 20
"""About the size of a band: the C library gives memory of this size straight back to the system."""


def layout(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """How numbers lie in tiles: channels innermost where convolutions are faster so (CPU; half precision on a GPU)."""
    half = dtype in (torch.float16, torch.bfloat16)
    return torch.channels_last if device.type == "cpu" or half else torch.contiguous_format


def band_rows(channels: int, size: Size, item: int) -> int:
    """Rows in a band of a map with numbers of `item` bytes."""
    return min(max(-(-BAND_BYTES // (channels * size[1] * item)), 1), size[0])


class FeatureMap:
    """A map `(1, channels, height, width)` on a device, written and read by region."""

    def __init__(self, channels: int, size: Size, dtype: torch.dtype, place: torch.device) -> None:
        self.size = size
        self._channels, self._dtype, self._place = channels, dtype, place
        self._rows = band_rows(channels, size, dtype.itemsize)
        self._bands: dict[int, Tensor] = {}
        self._lasting = False

    @classmethod
    def over(cls, values: Tensor) -> FeatureMap:
        """A tensor `(1, channels, height, width)` seen as a map: what is written goes there, and nothing is freed."""
        size = (values.shape[2], values.shape[3])
        made = cls(values.shape[1], size, values.dtype, values.device)
        made._rows, made._bands, made._lasting = size[0], {0: values}, True
        return made

    def write(self, region: Region, tile: Tensor) -> None:
        """Put a tile at its region."""
        for number, rows, part in self._pieces(region):
            band = self._bands.get(number)
            if band is None:
                height = min(self._rows, self.size[0] - number * self._rows)
                shape = (1, self._channels, height, self.size[1])
                band = self._bands[number] = torch.empty(
                    shape, dtype=self._dtype, device=self._place, memory_format=layout(self._place, self._dtype)
                )
            band[:, :, rows, slice(*region.columns)].copy_(tile[:, :, part])

    def read(self, region: Region, device: torch.device) -> Tensor:
        """A copy of a region, as a tile on `device` that the caller owns."""
        tile = torch.empty(
            (1, self._channels, *region.size), dtype=self._dtype, device=device,
            memory_format=layout(device, self._dtype),
        )  # fmt: skip
        for number, rows, part in self._pieces(region):
            tile[:, :, part].copy_(self._bands[number][:, :, rows, slice(*region.columns)])
        return tile

    def free_rows_above(self, row: int) -> None:
        """Free the bands that lie wholly above a row."""
        if not self._lasting:
            for number in [number for number in self._bands if (number + 1) * self._rows <= row]:
                del self._bands[number]

    def _pieces(self, region: Region) -> list[tuple[int, slice, slice]]:
        """(number of the band, rows inside the band, rows inside the region) for every band that a region touches."""
        first, last = region.rows
        pieces = []
        for number in range(first // self._rows, (last - 1) // self._rows + 1):
            start = number * self._rows
            top, bottom = max(first, start), min(last, start + self._rows)
            pieces.append((number, slice(top - start, bottom - start), slice(top - first, bottom - first)))
        return pieces
