"""The shapes of textures' elements: hairs, blades, leaves, bricks, puffs … as masks, drawn once at each size needed.

A shape points down (from its root at the top to its tip) in a box of height 1; `WIDTH` says how wide the box is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import skia
from numpy.typing import NDArray

from .outlines import path_of, smooth

WIDTH: dict[str, float] = {
    "lick": 0.42, "bristle": 0.2, "feather": 0.8, "pebble": 1.0, "blade": 0.26, "leaf": 0.52, "needle": 0.2,
    "puff": 1.0, "wisp": 0.2, "ripple": 0.24, "grain": 0.62, "hummock": 0.3, "facet": 0.62, "brick": 0.5,
    "cobble": 0.72, "bark": 0.22, "star": 1.0, "stitch": 0.5, "frond": 0.3,
}  # fmt: skip
VARIANTS = 4
SIDES = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Heights, in pixels, at which shapes are kept: an element is drawn from the next larger one."""


@dataclass(frozen=True)
class Sprites:
    """All variants of a shape at one size, side by side in one mask."""

    image: skia.Image
    boxes: list[skia.Rect]
    height: int


TURNS = 48
OFFSETS = 2
STEPS = 8
"""Of size in an octave."""
FAINT = 12
"""Of 255: what is fainter in a patch is left out."""


@dataclass(frozen=True)
class Patches:
    """All variants of a shape at one size, in `TURNS` turns and at `OFFSETS`² places within a pixel, ready to be added.

    Patch `((variant * TURNS + turn) * OFFSETS + down) * OFFSETS + across` is the entries from its first to the next
    one's: pixels to add to, as rows and columns from the element's pixel, and how much.
    """

    first: NDArray[np.int64]
    down: NDArray[np.int64]
    across: NDArray[np.int64]
    values: NDArray[np.float64]


@lru_cache(maxsize=1024)
def patches(shape: str, step: int) -> Patches:
    """The shape at height `2 ** (step / STEPS)` pixels."""
    height = 2 ** (step / STEPS)
    source = sprites(shape, height)
    side = 2 * int(np.ceil(0.5 * height * max(1.0, np.hypot(1, WIDTH[shape])) + 0.5)) + 1
    variants, turns, downs, acrosses = np.meshgrid(
        np.arange(VARIANTS), np.arange(TURNS), np.arange(OFFSETS), np.arange(OFFSETS), indexing="ij"
    )
    count = variants.size
    angle = turns.ravel() * 2 * np.pi / TURNS
    x = side // 2 + (acrosses.ravel() + 0.5) / OFFSETS
    y = side * np.arange(count) + side // 2 + (downs.ravel() + 0.5) / OFFSETS
    surface = skia.Surface.MakeRaster(skia.ImageInfo.MakeA8(side, side * count))
    lay(surface.getCanvas(), source, x, y, angle, np.full(count, height), variants.ravel(), np.ones(count))
    pixels = np.zeros((side * count, side), np.uint8)
    surface.readPixels(skia.ImageInfo.MakeA8(side, side * count), pixels, side, 0, 0)
    row, across = np.nonzero(pixels > FAINT)
    first = np.searchsorted(row, side * np.arange(count + 1))
    return Patches(first, row % side - side // 2, across - side // 2, pixels[row, across] / 255)


def lay(
    canvas: skia.Canvas,
    source: Sprites,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    angle: NDArray[np.float64],
    height: NDArray[np.float64],
    variant: NDArray[np.int64],
    opacity: NDArray[np.float64],
) -> None:
    """Draw sprites about (x, y), `height` pixels long, turned by `angle` from straight down towards the right."""
    k = height / source.height
    cos, sin = np.cos(angle) * k, -np.sin(angle) * k
    half_wide, half_high = source.boxes[0].width() / 2, source.boxes[0].height() / 2
    columns = (cos, sin, x - cos * half_wide + sin * half_high, y - sin * half_wide - cos * half_high)
    canvas.drawAtlas(
        source.image,
        list(map(skia.RSXform, *(column.tolist() for column in columns))),
        [source.boxes[k] for k in variant.tolist()],
        ((opacity * 255 + 0.5).astype(np.int64) << 24).tolist(),
        skia.BlendMode.kModulate,
        skia.SamplingOptions(skia.FilterMode.kLinear),
    )


@lru_cache(maxsize=256)
def sprites(shape: str, least: float) -> Sprites:
    """The shape at the smallest kept height that is at least `least` pixels."""
    return _sprites(shape, next((side for side in SIDES if side >= least), SIDES[-1]))


@lru_cache(maxsize=256)
def _sprites(shape: str, height: int) -> Sprites:
    wide = max(int(np.ceil(WIDTH[shape] * height)), 2) + 2
    surface = skia.Surface.MakeRaster(skia.ImageInfo.MakeA8(wide * VARIANTS, height + 2))
    canvas = surface.getCanvas()
    for variant in range(VARIANTS):
        canvas.save()
        canvas.translate(wide * (variant + 0.5), 1)
        canvas.scale(height, height)
        _draw(canvas, shape, np.random.default_rng((variant, 3)), WIDTH[shape] / 2)
        canvas.restore()
    boxes = [skia.Rect.MakeXYWH(wide * variant, 0, wide, height + 2) for variant in range(VARIANTS)]
    return Sprites(surface.makeImageSnapshot(), boxes, height)


def _draw(canvas: skia.Canvas, shape: str, rng: np.random.Generator, half: float) -> None:
    """One variant about x = 0 between y = 0 and 1, at most `half` to either side."""

    def fade(top: float, bottom: float) -> skia.Shader:
        colours = [skia.Color(0, 0, 0, int(255 * a)) for a in (top, bottom)]
        return skia.GradientShader.MakeLinear([skia.Point(0, 0), skia.Point(0, 1)], colours)

    def fill(path: skia.Path, top: float = 1.0, bottom: float = 1.0) -> None:
        canvas.drawPath(path, skia.Paint(AntiAlias=True, Shader=fade(top, bottom)))

    def tapered(bend: float, wide: float, thickest: float) -> NDArray[np.float64]:
        t = np.linspace(0, 1, 14)
        spine = bend * half * np.sin(np.pi * t * 0.5 + 0.2)
        around = np.where(
            t < thickest, np.sin(np.pi / 2 * t / thickest), np.cos(np.pi / 2 * (t - thickest) / (1 - thickest))
        )
        width = wide * half * around
        return np.concatenate([np.stack([spine - width, t], 1), np.stack([spine + width, t], 1)[::-1]])

    bend = float(rng.uniform(-0.55, 0.55))
    match shape:
        case "lick":
            fill(path_of(tapered(bend, 0.5, 0.4)), 0.75, 1.0)
        case "bristle" | "needle":
            fill(path_of(tapered(bend * 0.6, 0.6, 0.35)))
        case "blade" | "bark" | "frond":
            fill(path_of(tapered(bend, 0.5, 0.75 if shape == "blade" else 0.5)))
        case "wisp":
            fill(path_of(tapered(bend * 0.4, 0.75, 0.5)))
        case "leaf":
            fill(path_of(tapered(0.15 * bend, 0.9, 0.42)), 1.0, 0.7)
        case "ripple":
            t = np.linspace(0, 1, 13)
            low = half * (0.75 * np.sin(np.pi * t) ** 1.3 - 0.4)
            high = low - half * 0.8 * np.sin(np.pi * t)
            fill(path_of(np.concatenate([np.stack([low, t], 1), np.stack([high, t], 1)[::-1]])))
        case "hummock":
            outline = [
                (-half * 0.1, 0.0),
                (half * 0.8, 0.3),
                (half * 0.95, 0.55),
                (half * 0.5, 0.85),
                (-half * 0.1, 1.0),
            ]
            outline += [(-half * 0.55, 0.5 + 0.2 * bend)]
            fill(path_of(smooth(outline, 4)))
        case "puff" | "pebble":
            canvas.drawOval(
                skia.Rect.MakeLTRB(-half * 0.95, 0.03, half * 0.95, 0.97),
                skia.Paint(AntiAlias=True, Shader=fade(1.0, 0.0 if shape == "puff" else 0.25)),
            )
        case "grain":
            angles = np.arange(7) / 7 * 2 * np.pi + rng.uniform(0, 1)
            reach = rng.uniform(0.68, 1.0, 7)
            fill(path_of(np.stack([half * reach * np.cos(angles), 0.5 + 0.5 * reach * np.sin(angles)], 1)), 1.0, 0.4)
        case "facet":
            corners = [(-half * rng.uniform(0.4, 1), 0.3), (0.3 * half * bend, 0), (half * rng.uniform(0.4, 1), 0.55)]
            fill(path_of([*corners, (-half * rng.uniform(0, 0.6), 1.0)]), 1.0, 0.5)
        case "brick" | "cobble":
            box = skia.Rect.MakeLTRB(-half * 0.92, 0.03, half * 0.92, 0.97)
            round_by = 0.03 if shape == "brick" else 0.28
            paint = skia.Paint(AntiAlias=True, Color=skia.ColorBLACK)
            canvas.drawRoundRect(box, round_by, round_by, paint)
        case "feather":
            path = skia.Path()
            path.moveTo(-half, 0)
            path.cubicTo(-half, 0.75, -half * 0.4, 1.0, 0, 1.0)
            path.cubicTo(half * 0.4, 1.0, half, 0.75, half, 0)
            fill(path, 0.0, 1.0)
        case "stitch":
            for side in (-1, 1):
                strand = [(0.04 * side, 1.0), (side * half * 0.9, 0.35), (side * half * 0.9, 0.0), (0.04 * side, 0.6)]
                fill(path_of(strand))
        case "star":
            points = []
            for k in range(8):
                reach, angle = (0.5, 0.13)[k % 2], k * np.pi / 4
                points.append((reach * np.sin(angle), 0.5 + reach * np.cos(angle)))
            fill(path_of(points))
        case _:
            raise ValueError(f"no shape {shape!r}: there are {', '.join(WIDTH)}")
