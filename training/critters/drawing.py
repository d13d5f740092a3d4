"""Colours and a pen: the few drawing primitives animals and backgrounds share."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import skia

from .outlines import ellipse_path
from .texture import Material, Texture, Weaver

Colour = tuple[float, float, float]
"""Red, green, blue in 0..255."""

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


def lighter(colour: Colour) -> Colour:
    """What the elements of a texture that catch the light are like: of the same hue, and a little warmer."""
    return mix(shift(colour, 0, 0.14), (255, 250, 226), 0.22)


def darker(colour: Colour) -> Colour:
    """What the elements in the shade are like: of the same hue, and a little colder."""
    return mix(shift(colour, 0, -0.2), (44, 30, 70), 0.18)


@dataclass
class Pen:
    """Draws on a canvas in the canvas's current units; `light` multiplies every colour (night, sunset)."""

    canvas: skia.Canvas
    light: Colour = (1.0, 1.0, 1.0)
    weaver: Weaver | None = None
    """Makes the textures of a detailed scene; in a flat one there are none."""
    seed: int = 0
    """Of the textures."""
    texture: Texture | None = None
    """Laid over everything that is filled."""
    marks: list[tuple[str, float, float, float]] = field(default_factory=list)
    """(kind, x, y, radius) in device pixels."""

    def ink(self, colour: Colour, alpha: float = 1.0) -> int:
        """The skia colour under this pen's light."""
        r, g, b = (min(max(int(c * k + 0.5), 0), 255) for c, k in zip(colour, self.light, strict=True))
        return int(skia.Color(r, g, b, int(alpha * 255 + 0.5)))

    @contextmanager
    def clad(
        self,
        material: Material | None,
        bounds: tuple[float, float, float, float] | None = None,
        unit: float = 1.0,
    ) -> Iterator[None]:
        """Lay a material over what is filled inside; `bounds` (present units) hold it all, `unit` is its unit here."""
        before = self.texture
        if self.weaver is not None:
            matrix = self.canvas.getTotalMatrix()
            self.texture = material and self.weaver.weave(material, self.seed, matrix, bounds, unit)
        yield
        self.texture = before

    def bare(self) -> AbstractContextManager[None]:
        """Fill flat inside."""
        return self.clad(None)

    def lay(self, path: skia.Path, colour: Colour, width: float = 0.0) -> None:
        """The present texture's elements on a path that is filled (or, with a width, drawn along) in this colour."""
        if self.texture is None:
            return
        matrix = self.canvas.getTotalMatrix()
        for mask, tone in ((self.texture.darker, darker(colour)), (self.texture.lighter, lighter(colour))):
            paint = self.texture.paint(mask, matrix, self.ink(tone))
            if width:
                _along(paint, width)
            self.canvas.drawPath(path, paint)

    def fill(self, path: skia.Path, colour: Colour, alpha: float = 1.0) -> None:
        """Fill a path."""
        self.canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=self.ink(colour, alpha)))
        if alpha == 1.0:
            self.lay(path, colour)

    def stroke(self, path: skia.Path, colour: Colour, width: float, alpha: float = 1.0) -> None:
        """Draw along a path, round ends and joins."""
        self.canvas.drawPath(path, _along(skia.Paint(AntiAlias=True, Color=self.ink(colour, alpha)), width))

    def shape(self, path: skia.Path, colour: Colour, line: Colour, width: float) -> None:
        """Fill a path and draw its outline."""
        self.fill(path, colour)
        self.stroke(path, line, width)

    def rope(self, path: skia.Path, colour: Colour, line: Colour, width: float, edge: float) -> None:
        """A thick outlined line (tails, legs)."""
        self.stroke(path, line, width + edge)
        self.stroke(path, colour, width - edge)
        self.lay(path, colour, width - edge)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, alpha: float = 1.0) -> None:
        """Fill an ellipse."""
        rect = skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry)
        self.canvas.drawOval(rect, skia.Paint(AntiAlias=True, Color=self.ink(colour, alpha)))
        if alpha == 1.0 and self.texture is not None:
            self.lay(ellipse_path(x, y, rx, ry), colour)

    def rect(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Fill a rectangle from its top left corner."""
        rect = skia.Rect.MakeXYWH(x, y, width, height)
        self.canvas.drawRect(rect, skia.Paint(AntiAlias=True, Color=self.ink(colour)))
        if self.texture is not None:
            self.lay(skia.Path.Rect(rect), colour)

    def mark(self, kind: str, x: float, y: float, radius: float) -> None:
        """Remember where a part was drawn."""
        matrix = self.canvas.getTotalMatrix()
        point = matrix.mapXY(x, y)
        self.marks.append((kind, point.x(), point.y(), matrix.mapRadius(radius)))


def _along(paint: skia.Paint, width: float) -> skia.Paint:
    """The paint, set to draw along paths."""
    paint.setStyle(skia.Paint.kStroke_Style)
    paint.setStrokeWidth(width)
    paint.setStrokeCap(skia.Paint.kRound_Cap)
    paint.setStrokeJoin(skia.Paint.kRound_Join)
    return paint
