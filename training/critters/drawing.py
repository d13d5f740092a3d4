"""Colours, smooth outlines and a pen: the few drawing primitives animals and backgrounds share."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import skia

Colour = tuple[float, float, float]
"""Red, green, blue in 0..255."""
Points = npt.NDArray[np.float64]
"""(n, 2) array of x, y."""

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
INK: Colour = (34, 30, 40)


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """The colour a fraction `t` of the way from `a` to `b`."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def shift(colour: Colour, hue_degrees: float, lightness: float) -> Colour:
    """The colour with its hue turned and its lightness (0..1) moved."""
    hue, light, saturation = colorsys.rgb_to_hls(*(c / 255 for c in colour))
    light = min(max(light + lightness, 0), 1)
    r, g, b = colorsys.hls_to_rgb((hue + hue_degrees / 360) % 1, light, saturation)
    return (r * 255, g * 255, b * 255)


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


@dataclass
class Pen:
    """Draws on a canvas in the canvas's current units; `light` multiplies every colour (night, sunset)."""

    canvas: skia.Canvas
    light: Colour = (1.0, 1.0, 1.0)
    marks: list[tuple[str, float, float, float]] = field(default_factory=list)
    """(kind, x, y, radius) in device pixels."""

    def ink(self, colour: Colour, alpha: float = 1.0) -> int:
        """The skia colour under this pen's light."""
        r, g, b = (min(max(int(c * k + 0.5), 0), 255) for c, k in zip(colour, self.light, strict=True))
        return int(skia.Color(r, g, b, int(alpha * 255 + 0.5)))

    def fill(self, path: skia.Path, colour: Colour, alpha: float = 1.0) -> None:
        """Fill a path."""
        self.canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=self.ink(colour, alpha)))

    def stroke(self, path: skia.Path, colour: Colour, width: float, alpha: float = 1.0) -> None:
        """Draw along a path, round ends and joins."""
        paint = skia.Paint(
            AntiAlias=True,
            Color=self.ink(colour, alpha),
            Style=skia.Paint.kStroke_Style,
            StrokeWidth=width,
            StrokeCap=skia.Paint.kRound_Cap,
            StrokeJoin=skia.Paint.kRound_Join,
        )
        self.canvas.drawPath(path, paint)

    def shape(self, path: skia.Path, colour: Colour, line: Colour, width: float) -> None:
        """Fill a path and draw its outline."""
        self.fill(path, colour)
        self.stroke(path, line, width)

    def rope(self, path: skia.Path, colour: Colour, line: Colour, width: float, edge: float) -> None:
        """A thick outlined line (tails, legs)."""
        self.stroke(path, line, width + edge)
        self.stroke(path, colour, width - edge)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, alpha: float = 1.0) -> None:
        """Fill an ellipse."""
        self.canvas.drawOval(
            skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry),
            skia.Paint(AntiAlias=True, Color=self.ink(colour, alpha)),
        )

    def rect(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Fill a rectangle from its top left corner."""
        self.canvas.drawRect(
            skia.Rect.MakeXYWH(x, y, width, height), skia.Paint(AntiAlias=True, Color=self.ink(colour))
        )

    def mark(self, kind: str, x: float, y: float, radius: float) -> None:
        """Remember where a part was drawn."""
        matrix = self.canvas.getTotalMatrix()
        point = matrix.mapXY(x, y)
        self.marks.append((kind, point.x(), point.y(), matrix.mapRadius(radius)))
