"""A scene as pixels, at any resolution, with the places of every part.

All lengths are fractions of the stage (see `scene`), so the same scene at another resolution is the same picture,
only finer; a wider or taller one shows more of the background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import skia
from numpy.typing import NDArray

from .animals import draw_animal
from .backgrounds import ANIMAL_LIGHT, draw_background
from .drawing import Colour, Pen
from .scene import Scene
from .texture import Weaver

P = TypeVar("P", bound=Pen)


@dataclass(frozen=True)
class Part:
    """Where a part of an animal was drawn; `x` of the width, `y` and `radius` of the height."""

    animal: int
    kind: str
    x: float
    y: float
    radius: float


def render(scene: Scene, width: int, height: int) -> NDArray[np.uint8]:
    """The scene as uint8 `(height, width, 3)`, antialiased; the same for the same arguments."""
    return render_with_parts(scene, width, height)[0]


def render_with_parts(scene: Scene, width: int, height: int) -> tuple[NDArray[np.uint8], list[Part]]:
    """The scene as uint8 `(height, width, 3)` and its animals' parts, in drawing order."""
    if width < 8 or height < 8:
        raise ValueError(f"a picture is at least 8 by 8 pixels, not {width} by {height}")
    pixels = np.zeros((height, width, 4), np.uint8)
    surface = skia.Surface.MakeRasterDirect(
        skia.ImageInfo.Make(width, height, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType), pixels
    )
    canvas = surface.getCanvas()
    canvas.save()
    canvas.scale(height, height)
    weaver = Weaver(width, height) if scene.world == "detailed" else None
    draw_background(canvas, scene, width / height, weaver)
    canvas.restore()
    parts: list[Part] = []
    for index, pen in enumerate(draw_animals(canvas, scene, width, height, partial(Pen, weaver=weaver))):
        parts += [Part(index, kind, x / width, y / height, r / height) for kind, x, y, r in pen.marks]
    surface.flushAndSubmit()
    return np.ascontiguousarray(pixels[:, :, :3]), parts


def draw_animals(
    canvas: skia.Canvas, scene: Scene, width: int, height: int, pen_of: Callable[[skia.Canvas, Colour], P]
) -> Iterator[P]:
    """Draw the scene's animals on a canvas of this size, each with a pen of its own, and give the pen after each."""
    stage = min(width, height)
    for placed in scene.animals:
        pen = pen_of(canvas, ANIMAL_LIGHT[scene.time])
        pen.seed = placed.animal.seed
        canvas.save()
        canvas.translate((width - stage) / 2 + placed.x * stage, (height - stage) / 2 + placed.ground_y * stage)
        canvas.scale(placed.height * stage, placed.height * stage)
        pen.ellipse(0.0, -0.01, 0.34, 0.045, (30, 34, 50), 0.22)
        draw_animal(pen, placed.animal)
        canvas.restore()
        yield pen
