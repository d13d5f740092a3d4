"""Operations in a row on maps of known sizes, and how one region of a later map is computed from an earlier one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from .feature_map import FeatureMap
from .moments import Moments
from .operations import Addition, Attention, Normalisation, Operation, Pointwise, Residual
from .regions import Region, Size


class Chain:
    """Operations with the channels and sizes of the maps between them; map `k` enters operation `k`."""

    def __init__(self, operations: Sequence[Operation], channels: int, size: Size) -> None:
        self.operations = tuple(operations)
        self.channels = [channels]
        self.sizes = [size]
        for operation in self.operations:
            self.channels.append(operation.channels(self.channels[-1]))
            self.sizes.append(operation.size(self.sizes[-1]))

    def __len__(self) -> int:
        return len(self.operations)

    @cached_property
    def scale(self) -> Size:
        """Height and width that tiles are counted in: those of the largest map, the image."""
        return max(height for height, _ in self.sizes), max(width for _, width in self.sizes)

    def tile_at(self, place: int, tile: Size) -> Size:
        """A tile given in image pixels, in pixels of map `place`."""
        height, width = (max(-(-tile[axis] * self.sizes[place][axis] // self.scale[axis]), 1) for axis in (0, 1))
        return height, width

    @cached_property
    def checkpoints(self) -> list[int]:
        """Maps that may be stored: outside of residual branches, and not merely normalised or activated."""
        depth, found = 0, [0]
        for place, operation in enumerate(self.operations, 1):
            depth += isinstance(operation, Residual) - isinstance(operation, Addition)
            if depth == 0 and (place == len(self) or not isinstance(operation, (Normalisation, Pointwise))):
                found.append(place)
        return found

    def norms(self, start: int, stop: int) -> list[int]:
        """The group normalisations among the operations from `start` to before `stop`."""
        return [place for place in range(start, stop) if isinstance(self.operations[place], Normalisation)]

    def norm_at(self, place: int) -> int | None:
        """The operation that needs the statistics of map `place` itself, if there is one."""
        while place < len(self) and isinstance(self.operations[place], Residual):
            place += 1
        operation = self.operations[place] if place < len(self) else None
        at_norm = isinstance(operation, Normalisation)
        return place if at_norm or (isinstance(operation, Attention) and operation.needs_statistics) else None

    def last_branch(self, start: int, stop: int) -> tuple[int, int] | None:
        """If a residual block ends at `stop`, (index of its start, index of its last GroupNorm after a convolution)."""
        if stop == 0 or not isinstance(self.operations[stop - 1], Addition):
            return None
        begin = max(place for place in range(stop) if isinstance(self.operations[place], Residual))
        norms = self.norms(begin, stop)
        return (begin, norms[-1]) if begin >= start and len(norms) > 1 else None

    def regions(self, start: int, stop: int, wanted: Region) -> tuple[list[Region], dict[int, Region]]:
        """What a region of map `stop` needs.

        Returns:
            The region needed of each map from `start` to `stop`; and, for every residual branch that ends on the way,
            by the place of its start, the region that the shortcut needs.
        """
        needed = [wanted]
        shortcuts: dict[int, Region] = {}
        open_branches: list[Region] = []
        for place in range(stop - 1, start - 1, -1):
            operation, region = self.operations[place], needed[0]
            if isinstance(operation, Addition):
                open_branches.append(region)
            elif isinstance(operation, Residual) and open_branches:
                shortcuts[place] = open_branches.pop()
                region = region.hull(shortcuts[place])
            needed.insert(0, operation.needs(region, self.sizes[place]))
        return needed, shortcuts

    def evaluate(
        self,
        start: int,
        stop: int,
        wanted: Region,
        source: FeatureMap,
        moments: Mapping[int, Moments],
        device: torch.device,
        branch: Tensor | None = None,
    ) -> Tensor:
        """A region of map `stop`, computed from map `start`.

        Args:
            start, stop: places; no attention lies between them.
            wanted: the region.
            source: map `start`.
            moments: the statistics of every group normalisation on the way, by place.
            device: where to compute.
            branch: the shortcut of a residual branch that began before `start`.

        Returns:
            `(1, channels, height, width)` of the region, on `device`.
        """
        needed, shortcuts = self.regions(start, stop, wanted)
        branches = [] if branch is None else [branch]
        tile = source.read(needed[0], device)
        for place in range(start, stop):
            operation, covers, region = self.operations[place], needed[place - start], needed[place - start + 1]
            if isinstance(operation, Residual):
                if place in shortcuts:
                    branches.append(operation.run(tile, covers, shortcuts[place]))
            elif isinstance(operation, Addition):
                tile = tile.add_(branches.pop())
                if operation.divisor != 1:
                    tile = tile.div_(operation.divisor)
            elif isinstance(operation, Normalisation):
                tile = moments[place].normalise(tile, operation.norm)
            else:
                tile = operation.run(tile, covers, region)
        return tile
