"""Rectangles of a feature map, and the tiles that cover one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Size = tuple[int, int]
"""(height, width) of a feature map."""
Interval = tuple[int, int]
"""First and one past the last row (or column)."""


@dataclass(frozen=True)
class Region:
    """Rows and columns of a feature map, each as (first, one past the last)."""

    rows: Interval
    columns: Interval

    @classmethod
    def whole(cls, size: Size) -> Region:
        """All of a map of this size."""
        return cls((0, size[0]), (0, size[1]))

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    @property
    def pixels(self) -> int:
        """How many positions it has."""
        return self.size[0] * self.size[1]

    def inside(self, outer: Region) -> tuple[slice, slice]:
        """Where this region lies in a tile that covers `outer`."""
        top, left = outer.rows[0], outer.columns[0]
        return slice(self.rows[0] - top, self.rows[1] - top), slice(self.columns[0] - left, self.columns[1] - left)

    def hull(self, other: Region) -> Region:
        """The smallest region that holds both."""
        return Region(_hull(self.rows, other.rows), _hull(self.columns, other.columns))


def _hull(one: Interval, other: Interval) -> Interval:
    return min(one[0], other[0]), max(one[1], other[1])


def tiles_of(size: Size, tile: Size) -> Iterator[Region]:
    """Regions of at most `tile` that cover a map of `size` once, row by row."""
    for top in range(0, size[0], tile[0]):
        for left in range(0, size[1], tile[1]):
            yield Region((top, min(top + tile[0], size[0])), (left, min(left + tile[1], size[1])))
