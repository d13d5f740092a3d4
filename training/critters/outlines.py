"""Outlines: smooth, mirrored, tufted; as points and as paths of skia."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import skia

Points = npt.NDArray[np.float64]
"""(n, 2) array of x, y."""


def smooth(control: Sequence[tuple[float, float]], steps: int = 8) -> Points:
    """A closed Catmull-Rom curve through the control points, `steps` points a span."""
    p1 = np.asarray(control, dtype=np.float64)
    p0, p2, p3 = np.roll(p1, 1, 0), np.roll(p1, -1, 0), np.roll(p1, -2, 0)
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (p[:, None, :] for p in (p0, p1, p2, p3))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.asarray(curve.reshape(-1, 2))


def mirrored(half: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A closed symmetric outline from its right half, top to bottom (first and last on the axis)."""
    return [*half, *((-x, y) for x, y in half[-2:0:-1])]


def tufted(outline: Points, tuft: float, length: float) -> Points:
    """The outline with a scalloped fur edge: tufts about `length` wide that stand out by `tuft`."""
    closed = np.vstack([outline, outline[:1]])
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    count = max(int(along[-1] / length), 6)
    s = np.arange(count * 6) / (count * 6)
    x = np.interp(s * along[-1], along, closed[:, 0])
    y = np.interp(s * along[-1], along, closed[:, 1])
    tangent = np.stack([np.roll(x, -1) - np.roll(x, 1), np.roll(y, -1) - np.roll(y, 1)], 1)
    tangent /= np.hypot(*tangent.T)[:, None] + 1e-9
    bump = np.abs(np.sin(np.pi * s * count))[:, None] - 0.4
    return np.asarray(np.stack([x, y], 1) + tuft * bump * np.stack([tangent[:, 1], -tangent[:, 0]], 1))


def path_of(points: Points | Sequence[tuple[float, float]], close: bool = True) -> skia.Path:
    """A skia path through the points by straight lines."""
    path = skia.Path()
    path.addPoly([skia.Point(float(x), float(y)) for x, y in points], close)
    return path


def ellipse_path(x: float, y: float, rx: float, ry: float) -> skia.Path:
    """An ellipse about (x, y)."""
    path = skia.Path()
    path.addOval(skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry))
    return path
