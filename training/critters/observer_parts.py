"""Which animals and parts of a scene can be seen, and where: nothing hidden is ever marked.

The animals are drawn a second time, each stroke in a colour that is its number.  What is left of a part's own strokes
in the finished drawing is what can be seen of it: no thresholds on colours, no second list of shapes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import skia
from numpy.typing import NDArray

from .drawing import Colour, Pen
from .renderer import draw_animals
from .scene import Scene

KINDS = ("animal", "eye", "ear", "mouth", "tail")
BEHIND = ("ear", "tail")
"""Parts drawn behind the body: their place is the middle of what shows of them.  So is, in the detailed world, that of
an animal whose middle the frame cuts off."""

DOUBTFUL = 0.14
"""What is said to show of a second head, as of an animal: so little that either answer is right.  Two heads on one body
may be called one animal or two; that it is malformed, its eyes and mouths say."""
HEAD = 3.5
"""About a head's radius, in radii of its eyes."""

REACH = {"animal": 1.6, "eye": 1.0}
"""How far, in radii of its mark, a part's strokes are looked for: a second head may stand out of the animal, and
beside an eye are strokes of the head."""


@dataclass(frozen=True)
class SeenPart:
    """One animal or part; lengths in pixels of the picture."""

    animal: int
    kind: str
    x: float
    y: float
    radius: float
    seen: float
    """The share of its own strokes that nothing drawn later, and no edge of the picture, hides: 0 to 1."""


@dataclass
class _Strokes:
    """What all pens of one drawing share: the canvas's pixels and the number of the next stroke."""

    pixels: NDArray[np.uint8]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    last: int = 0

    def between(self, first: int, last: int, box: tuple[slice, slice]) -> NDArray[np.bool_]:
        """Where, in the box, the strokes first < number <= last show now."""
        p = self.pixels[box].astype(np.int32)
        number = p[..., 0] | (p[..., 1] << 8) | (p[..., 2] << 16)
        return np.asarray((number > first) & (number <= last))


@dataclass
class _Drawn:
    """A part as it was when drawn."""

    kind: str
    x: float
    y: float
    radius: float
    first: int
    last: int
    box: tuple[slice, slice]
    area: int


@dataclass
class NumberingPen(Pen):
    """Paints every opaque stroke in its number, hard-edged; sheer ones (glass, shadows) hide nothing."""

    strokes: _Strokes = field(default_factory=lambda: _Strokes(np.zeros((1, 1, 4), np.uint8)))
    drawn: list[_Drawn] = field(default_factory=list)

    def _paint(self) -> skia.Paint:
        number = next(self.strokes.numbers)
        self.strokes.last = number
        return skia.Paint(AntiAlias=False, Color=skia.Color(number & 255, number >> 8 & 255, number >> 16))

    def fill(self, path: skia.Path, colour: Colour, alpha: float = 1.0) -> None:  # noqa: ARG002
        if alpha > 0.5:
            self.canvas.drawPath(path, self._paint())

    def stroke(self, path: skia.Path, colour: Colour, width: float, alpha: float = 1.0) -> None:  # noqa: ARG002
        if alpha > 0.5:
            paint = self._paint()
            paint.setStyle(skia.Paint.kStroke_Style)
            paint.setStrokeWidth(width)
            self.canvas.drawPath(path, paint)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, alpha: float = 1.0) -> None:  # noqa: ARG002
        if alpha > 0.5:
            self.canvas.drawOval(skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry), self._paint())

    def mark(self, kind: str, x: float, y: float, radius: float) -> None:
        super().mark(kind, x, y, radius)
        _, cx, cy, r = self.marks[-1]
        reach = int(REACH.get(kind, 1.25) * r) + 1
        rows = slice(max(int(cy) - reach, 0), max(int(cy) + reach + 1, 0))
        columns = slice(max(int(cx) - reach, 0), max(int(cx) + reach + 1, 0))
        first = self.drawn[-1].last if self.drawn else self.strokes.last
        part = _Drawn(kind, cx, cy, r, first, self.strokes.last, (rows, columns), 0)
        part.area = int(self.strokes.between(part.first, part.last, part.box).sum())
        self.drawn.append(part)


def seen_parts(
    scene: Scene, width: int, height: int, window: tuple[int, int, int, int] | None = None
) -> list[SeenPart]:
    """Animals and parts of the scene rendered at this size, in drawing order; without those of which nothing shows.

    A second head follows its animal's parts as a doubtful animal.

    `window` (left, top, width, height) is the piece of the picture that is kept; places are then pixels of that piece.
    """
    left, top, wide, high = window or (0, 0, width, height)
    tallest = max((placed.height for placed in scene.animals), default=0.0)
    margin = int(0.75 * tallest * min(width, height)) + 1  # so that what an edge cuts off is counted too
    pixels = np.zeros((height + 2 * margin, width + 2 * margin, 4), np.uint8)
    info = skia.ImageInfo.Make(*pixels.shape[1::-1], skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
    canvas = skia.Surface.MakeRasterDirect(info, pixels).getCanvas()
    canvas.translate(margin, margin)
    strokes = _Strokes(pixels)
    animals: list[list[_Drawn]] = []
    for pen in draw_animals(canvas, scene, width, height, lambda c, light: NumberingPen(c, light, strokes=strokes)):
        whole, *_ = pen.drawn  # marked before its first stroke: only now are all of them there
        whole.last = strokes.last
        whole.area = int(strokes.between(whole.first, whole.last, whole.box).sum())
        animals.append(pen.drawn)

    inside = np.zeros(pixels.shape[:2], bool)
    inside[margin + top : margin + top + high, margin + left : margin + left + wide] = True
    parts = []
    for index, drawn in enumerate(animals):
        for part in drawn:
            shows = strokes.between(part.first, part.last, part.box) & inside[part.box]
            count = int(shows.sum())
            if not count:
                continue
            x, y = part.x, part.y
            outside = not inside[min(max(int(y), 0), len(inside) - 1), min(max(int(x), 0), inside.shape[1] - 1)]
            if part.kind in BEHIND or (part.kind == "animal" and outside and scene.world == "detailed"):
                rows, columns = np.nonzero(shows)
                x, y = columns.mean() + (part.box[1].start or 0) + 0.5, rows.mean() + (part.box[0].start or 0) + 0.5
            x, y = float(x) - margin - left, float(y) - margin - top
            parts.append(SeenPart(index, part.kind, x, y, part.radius, count / max(part.area, 1)))
        if len(scene.animals[index].animal.copies("head")) > 1:
            one, other = [part for part in drawn if part.kind == "eye"][-2:]
            x, y = (one.x + other.x) / 2 - margin - left, (one.y + other.y) / 2 - margin - top
            if 0 <= x < wide and 0 <= y < high:
                parts.append(SeenPart(index, "animal", x, y, HEAD * one.radius, DOUBTFUL))
    return parts
