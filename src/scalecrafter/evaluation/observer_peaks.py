"""From heat maps to marks: a part is a local maximum that is high enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

ANIMAL_REACH, PART_REACH = 2, 1
"""A peak is the highest cell within so many cells on each side."""


@dataclass(frozen=True)
class Mark:
    """One animal or part in a picture."""

    kind: str
    x: float
    """Fraction of the width."""
    y: float
    """Fraction of the height."""
    score: float


def peaks(heat: NDArray[np.float32], reach: int, floor: float) -> list[tuple[float, float, float]]:
    """The local maxima of one map `(rows, columns)` that are at least `floor`: (x, y, score), highest first.

    `x` and `y` are fractions of width and height, refined below a cell by the mean of the 3×3 cells about the peak.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(heat))[None, None]
    highest = F.max_pool2d(tensor, 2 * reach + 1, 1, reach)[0, 0].numpy()
    found: list[tuple[float, float, float]] = []
    taken = np.zeros(heat.shape, bool)
    rows, columns = np.nonzero((heat == highest) & (heat >= floor))
    for row, column in sorted(zip(rows.tolist(), columns.tolist()), key=lambda at: -heat[at]):
        if taken[row, column]:  # a plateau counts once
            continue
        taken[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = True
        top, left = max(row - 1, 0), max(column - 1, 0)
        patch = heat[top : row + 2, left : column + 2].astype(np.float64)
        ys, xs = np.mgrid[top : top + patch.shape[0], left : left + patch.shape[1]]
        x, y = float((patch * xs).sum() / patch.sum()), float((patch * ys).sum() / patch.sum())
        found.append(((x + 0.5) / heat.shape[1], (y + 0.5) / heat.shape[0], float(heat[row, column])))
    return found


def marks_of(heat: NDArray[np.float32], kinds: tuple[str, ...], floors: dict[str, float]) -> tuple[Mark, ...]:
    """The marks of heat maps `(kinds, rows, columns)`, a floor for the peaks of each kind."""
    return tuple(
        Mark(kind, x, y, score)
        for kind, plane in zip(kinds, heat, strict=True)
        for x, y, score in peaks(plane, ANIMAL_REACH if kind == "animal" else PART_REACH, floors[kind])
    )
