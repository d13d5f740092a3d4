"""What the observer should say of a picture: heat maps, where they are judged, and counts.

Rows of marks are those of `observer_data`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scalecrafter.evaluation.observer_network import STRIDE

from .observer_parts import KINDS
from .observer_scenes import HIDDEN, SEEN, SIDE

SMALL = 64.0
"""Parts of animals lower than this (pixels of 256) are not judged: their eyes are less than nine pixels wide."""
MOUTH = KINDS.index("mouth")
FINE_MOUTH, SEEN_MOUTH = 5.0, 0.5
"""A mouth is a thin line.  Of a radius below the first (pixels of 256), or with less than the second to be seen of it,
either answer is right."""
CELLS = SIDE // STRIDE

_Y, _X = np.mgrid[0:CELLS, 0:CELLS].astype(np.float32) + 0.5


def mirrored(marks: NDArray[np.float32]) -> NDArray[np.float32]:
    """The marks of the picture's mirror image."""
    out = marks.copy()
    out[:, 1] = SIDE - out[:, 1]
    return out


def is_doubtful(kind: int, radius: float, seen: float, height: float) -> bool:
    """Whether so little shows of a part that is not hidden, or it is so small, that either answer is right."""
    if kind == MOUTH and seen > HIDDEN and (radius < FINE_MOUTH or seen < SEEN_MOUTH):
        return True
    return HIDDEN < seen < SEEN or (kind > 0 and height < SMALL)


def heat_targets(marks: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Targets and judgement of one picture, each `(kinds, 64, 64)`.

    A target is 1 in the cell of a part, falling off as a Gaussian; judgement is 0 where either answer is right: parts
    that hardly show, and parts of small animals.
    """
    heat = np.zeros((len(KINDS), CELLS, CELLS), np.float32)
    judged = np.ones_like(heat)
    rows = marks[~np.isnan(marks[:, 0])]
    for kind, x, y, radius, seen, height in rows:
        k, cx, cy = int(kind), x / STRIDE, y / STRIDE
        if k == 0 and height < SMALL:
            judged[1:, _near(cx, cy, 0.6 * height / STRIDE)] = 0
        if is_doubtful(k, radius, seen, height):
            judged[k, _near(cx, cy, max(1.2 * radius / STRIDE, 2.0))] = 0
    for kind, x, y, radius, seen, height in rows:
        k, cx, cy = int(kind), x / STRIDE, y / STRIDE
        if seen < SEEN or is_doubtful(k, radius, seen, height):
            continue
        sigma = float(np.clip(0.1 * height / STRIDE, 1.0, 2.5) if k == 0 else np.clip(0.5 * radius / STRIDE, 0.8, 2.0))
        reach = 3 * sigma + 1
        box = (
            slice(max(int(cy - reach), 0), max(int(cy + reach) + 1, 0)),
            slice(max(int(cx - reach), 0), max(int(cx + reach) + 1, 0)),
        )
        bump = np.exp(-((_X[box] - cx) ** 2 + (_Y[box] - cy) ** 2) / (2 * sigma**2))
        heat[k][box] = np.maximum(heat[k][box], bump)
        row, column = min(max(int(cy), 0), CELLS - 1), min(max(int(cx), 0), CELLS - 1)
        heat[k, row, column] = judged[k, row, column] = 1.0
    return heat, judged


def _near(x: float, y: float, radius: float) -> NDArray[np.bool_]:
    return np.asarray((_X - x) ** 2 + (_Y - y) ** 2 < radius**2)


def counts(marks: NDArray[np.float32]) -> NDArray[np.int64]:
    """`(kinds, 2)`: the least and the greatest right count of each kind; -1 and a large number where it is not judged.

    Parts that hardly show may be counted or not; the parts of a picture with a small animal are not judged.
    """
    rows = marks[~np.isnan(marks[:, 0])]
    out = np.zeros((len(KINDS), 2), np.int64)
    for kind, _, _, radius, seen, height in rows:
        k = int(kind)
        out[k] += (seen >= SEEN and not is_doubtful(k, radius, seen, max(height, SMALL)), seen > HIDDEN)
    if (rows[rows[:, 0] == 0, 5] < SMALL).any() or (rows[:, 5] == 0).any():
        out[1:] = -1, 10_000
    return out
