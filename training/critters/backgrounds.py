"""The scenery: seven places by day, at sunset and at night; pale and soft, so that the animal stands out.

Coordinates are picture heights: (0, 0) top left, (aspect, 1) bottom right; the ground begins at `HORIZON`.
"""

from __future__ import annotations

import math
import random

import skia

from .drawing import Colour, Pen, mix
from .materials import (
    BARK,
    BRICKS,
    CLOUD,
    COBBLES,
    FAR_GRASS,
    FROND,
    GRASS,
    LEAVES,
    NEEDLES,
    NIGHT,
    ROCK,
    SAND,
    SKY,
    SNOW,
    STARS,
    TILES,
    WATER,
)
from .outlines import ellipse_path, path_of, smooth
from .scene import Scene
from .texture import Material, Weaver

HORIZON = 0.62

SKY_COLOURS: dict[str, tuple[Colour, Colour]] = {
    "day": ((140, 196, 236), (222, 240, 250)),
    "sunset": ((150, 118, 176), (252, 190, 140)),
    "night": ((22, 28, 66), (62, 72, 124)),
}
LIGHT: dict[str, Colour] = {"day": (1.0, 1.0, 1.0), "sunset": (0.98, 0.84, 0.8), "night": (0.42, 0.46, 0.66)}
ANIMAL_LIGHT: dict[str, Colour] = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.95, 0.92), "night": (0.84, 0.86, 0.94)}

GROUND: dict[str, Colour] = {
    "snow": (232, 240, 248), "forest": (142, 168, 112), "beach": (240, 222, 176), "desert": (236, 200, 142),
    "meadow": (166, 208, 122), "mountains": (172, 186, 150), "city": (186, 186, 190),
}  # fmt: skip

GROUND_MATERIAL: dict[str, Material] = {
    "snow": SNOW, "forest": GRASS, "beach": SAND, "desert": SAND, "meadow": GRASS, "mountains": GRASS, "city": COBBLES,
}  # fmt: skip


def draw_background(canvas: skia.Canvas, scene: Scene, aspect: float, weaver: Weaver | None = None) -> None:
    """Sky, scenery and ground of a scene on a canvas scaled to picture heights."""
    dice = random.Random(scene.background_seed)
    sky = Pen(canvas, weaver=weaver, seed=scene.background_seed)
    _draw_sky(sky, scene.time, aspect, dice)
    pen = Pen(canvas, LIGHT[scene.time], weaver, scene.background_seed)
    ground = GROUND[scene.place]
    middle = (-0.1, 0.05, aspect + 0.1, HORIZON + 0.12)
    match scene.place:
        case "snow":
            with pen.clad(SNOW, (-0.1, 0.4, aspect + 0.1, 1.0)):
                _hills(pen, aspect, dice, [mix(ground, (190, 208, 230), 0.8), mix(ground, (200, 216, 236), 0.4)])
            with pen.clad(NEEDLES, (-0.1, 0.25, aspect + 0.1, HORIZON + 0.06)):
                _each(
                    aspect, dice, 0.3, lambda x: _fir(pen, x, HORIZON + 0.03, dice.uniform(0.2, 0.3), (120, 160, 160))
                )
        case "forest":
            with pen.clad(LEAVES, middle):
                _flat(pen, aspect, 0.3, (150, 186, 150), HORIZON + 0.05)
                _each(aspect, dice, 0.17, lambda x: _tree(pen, x, HORIZON + 0.04, dice.uniform(0.36, 0.5), dice))
        case "beach":
            with pen.clad(WATER, (-0.1, 0.45, aspect + 0.1, HORIZON + 0.05)):
                _flat(pen, aspect, 0.46, (122, 190, 214), HORIZON + 0.05)
            _each(aspect, dice, 0.4, lambda x: _wave(pen, x, dice.uniform(0.49, 0.59)))
            _palm(pen, aspect * (0.5 + dice.choice((-0.36, 0.36))), HORIZON + 0.06, 0.5)
        case "desert":
            with pen.clad(SAND, (-0.1, 0.4, aspect + 0.1, 1.0)):
                _hills(pen, aspect, dice, [mix(ground, (222, 160, 116), 0.6), mix(ground, (228, 180, 124), 0.5)])
            _cactus(pen, aspect * (0.5 + dice.choice((-0.36, 0.36))), HORIZON + 0.06, 0.26)
        case "meadow":
            with pen.clad(FAR_GRASS, (-0.1, 0.4, aspect + 0.1, HORIZON + 0.1)):
                _hills(pen, aspect, dice, [(150, 200, 160), (152, 202, 134)])
        case "mountains":
            with pen.clad(ROCK, (-0.1, 0.15, aspect + 0.1, HORIZON + 0.06)):
                _mountains(pen, aspect, dice)
        case "city":
            _houses(pen, aspect, dice, scene.time)
    _draw_ground(pen, scene, aspect, ground, dice)


def _gradient(pen: Pen, aspect: float, top: float, bottom: float, upper: Colour, lower: Colour) -> None:
    shader = skia.GradientShader.MakeLinear(
        [skia.Point(0, top), skia.Point(0, bottom)], [pen.ink(upper), pen.ink(lower)]
    )
    rect = skia.Rect.MakeLTRB(-0.01, top, aspect + 0.01, bottom + 0.01)
    pen.canvas.drawRect(rect, skia.Paint(Shader=shader))
    pen.lay(skia.Path.Rect(rect), mix(upper, lower, 0.5))


def _each(aspect: float, dice: random.Random, spacing: float, draw) -> None:  # type: ignore[no-untyped-def]
    """Something every `spacing` from the middle outwards, so that a wider picture only adds more at the sides."""
    count = int(aspect / spacing / 2) + 2
    order = [0] + [k * side for k in range(1, count) for side in (1, -1)]
    for k in order:
        draw(aspect / 2 + (k + 0.5 + dice.uniform(-0.3, 0.3)) * spacing)


def _draw_sky(pen: Pen, time: str, aspect: float, dice: random.Random) -> None:
    upper, lower = SKY_COLOURS[time]
    whole = (-0.1, 0.0, aspect + 0.1, HORIZON + 0.1)
    with pen.clad(NIGHT if time == "night" else SKY, whole):
        _gradient(pen, aspect, 0.0, HORIZON + 0.1, upper, lower)
    side = dice.choice((-1, 1))
    x, y = aspect / 2 + side * dice.uniform(0.3, 0.4), dice.uniform(0.12, 0.2)
    if time == "night":
        with pen.clad(STARS, whole):
            pen.lay(skia.Path.Rect(skia.Rect.MakeLTRB(*whole)), (200, 206, 240))
        _each(
            aspect, dice, 0.06, lambda at: pen.ellipse(at, dice.uniform(0.02, 0.4), 0.005, 0.005, (230, 232, 250), 0.8)
        )
        pen.ellipse(x, y, 0.065, 0.065, (246, 240, 206))
        pen.ellipse(x - 0.028, y - 0.015, 0.055, 0.055, mix(upper, lower, y))
        return
    sun: Colour = (255, 244, 190) if time == "day" else (255, 214, 120)
    y = y if time == "day" else HORIZON - 0.16
    pen.ellipse(x, y, 0.1, 0.1, sun, 0.3)
    pen.ellipse(x, y, 0.065, 0.065, sun)
    cloud: Colour = (255, 255, 255) if time == "day" else (252, 216, 196)
    for _ in range(2):
        cx, cy = aspect / 2 - side * dice.uniform(0.15, 0.42), dice.uniform(0.08, 0.3)
        for dx, dy, r in ((-0.07, 0.01, 0.03), (0, -0.01, 0.045), (0.06, 0.01, 0.032)):
            pen.ellipse(cx + dx, cy + dy, r * 1.5, r, cloud, 0.75)
            with pen.clad(CLOUD, whole):
                pen.lay(ellipse_path(cx + dx, cy + dy, r * 1.5, r), mix(cloud, (150, 170, 200), 0.12))


def _flat(pen: Pen, aspect: float, top: float, colour: Colour, bottom: float = 1.0) -> None:
    """A band of one colour down to the picture's edge, with the texture as far as `bottom`."""
    with pen.bare():
        pen.rect(-0.01, top, aspect + 0.02, 1 - top, colour)
    pen.lay(skia.Path.Rect(skia.Rect.MakeLTRB(-0.01, top, aspect + 0.01, bottom)), colour)


def _hills(pen: Pen, aspect: float, dice: random.Random, colours: list[Colour]) -> None:
    for row, colour in enumerate(colours):
        base, phase = 0.5 + 0.06 * row, dice.uniform(0, 6.3)
        xs = [aspect / 2 + (k - 60) * 0.05 for k in range(121)]
        top = [(x, base + 0.045 * math.sin(3.6 * (x - aspect / 2) + phase)) for x in xs]
        pen.fill(path_of([*top, (xs[-1], 1.0), (xs[0], 1.0)]), colour)


def _fir(pen: Pen, x: float, y: float, height: float, colour: Colour) -> None:
    with pen.clad(BARK, (x - 0.02, y - 0.05, x + 0.02, y + 0.02)):
        pen.rect(x - 0.012, y - 0.04, 0.024, 0.05, (126, 100, 86))
    for k in range(3):
        low, wide = y - 0.03 - height * 0.24 * k, height * (0.3 - 0.06 * k)
        pen.fill(
            path_of([(x - wide, low), (x + wide, low), (x, low - height * 0.42)]), mix(colour, (255, 255, 255), 0.1 * k)
        )


def _tree(pen: Pen, x: float, y: float, height: float, dice: random.Random) -> None:
    with pen.clad(BARK, (x - 0.03, y - height * 0.62, x + 0.03, y + 0.03)):
        pen.rect(x - 0.018, y - height * 0.6, 0.036, height * 0.62, (142, 116, 94))
    leaf = mix((112, 158, 104), (136, 176, 112), dice.random())
    for dx, dy, r in ((-0.06, 0, 0.085), (0.06, 0, 0.085), (0, -0.08, 0.095)):
        pen.ellipse(x + dx, y - height * 0.72 + dy, r, r, leaf)


def _wave(pen: Pen, x: float, y: float) -> None:
    path = skia.Path()
    path.moveTo(x - 0.06, y)
    path.quadTo(x - 0.03, y - 0.014, x, y)
    path.quadTo(x + 0.03, y - 0.014, x + 0.06, y)
    pen.stroke(path, (206, 234, 242), 0.008)


def _palm(pen: Pen, x: float, y: float, height: float) -> None:
    trunk = skia.Path()
    trunk.moveTo(x, y)
    trunk.quadTo(x + 0.01, y - height * 0.5, x + 0.04, y - height)
    pen.stroke(trunk, (176, 142, 104), 0.03)
    with pen.clad(BARK, (x - 0.05, y - height - 0.03, x + 0.09, y + 0.03)):
        pen.lay(trunk, (176, 142, 104), 0.03)
    for angle in (200, 235, 305, 340, 270):
        a = math.radians(angle)
        tip = (x + 0.04 + 0.17 * math.cos(a), y - height + 0.1 + 0.15 * math.sin(a))
        leaf = skia.Path()
        leaf.moveTo(x + 0.04, y - height)
        leaf.quadTo((x + 0.04 + tip[0]) / 2, tip[1] - 0.07, *tip)
        leaf.quadTo((x + 0.04 + tip[0]) / 2, tip[1] - 0.02, x + 0.04, y - height)
        with pen.clad(FROND, (x - 0.2, y - height - 0.15, x + 0.28, y - height + 0.35)):
            pen.fill(leaf, (124, 176, 120))


def _cactus(pen: Pen, x: float, y: float, height: float) -> None:
    path = skia.Path()
    path.moveTo(x, y)
    path.lineTo(x, y - height)
    for side, low in ((-1, 0.4), (1, 0.55)):
        path.moveTo(x, y - height * low)
        path.lineTo(x + side * 0.07, y - height * low)
        path.lineTo(x + side * 0.07, y - height * (low + 0.28))
    pen.stroke(path, (130, 172, 122), 0.042)
    with pen.clad(NEEDLES, (x - 0.11, y - height - 0.05, x + 0.11, y + 0.03)):
        pen.lay(path, (130, 172, 122), 0.042)


def _mountains(pen: Pen, aspect: float, dice: random.Random) -> None:
    def peak(x: float) -> None:
        top, wide = dice.uniform(0.2, 0.34), dice.uniform(0.26, 0.34)
        slope = (HORIZON + 0.05 - top) / wide
        pen.fill(path_of([(x - wide, HORIZON + 0.05), (x, top), (x + wide, HORIZON + 0.05)]), (158, 168, 188))
        cap = 0.09
        snow = [(x, top), (x + cap / slope, top + cap), (x + 0.02, top + cap * 0.7), (x - 0.015, top + cap * 1.1)]
        pen.fill(path_of([*snow, (x - cap / slope, top + cap)]), (240, 244, 250))

    _each(aspect, dice, 0.34, peak)


def _houses(pen: Pen, aspect: float, dice: random.Random, time: str) -> None:
    glow = Pen(pen.canvas)
    window: Colour = (250, 226, 140) if time == "night" else (176, 206, 226)

    def house(x: float) -> None:
        wide, top = dice.uniform(0.085, 0.1), dice.uniform(0.26, 0.44)
        wall = dice.choice(((208, 184, 172), (196, 200, 212), (214, 204, 176), (186, 196, 186)))
        with pen.clad(BRICKS, (-0.2, 0.25, aspect + 0.2, HORIZON + 0.06)):
            pen.rect(x - wide, top, wide * 2, HORIZON + 0.05 - top, wall)
        if dice.random() < 0.5:
            with pen.clad(TILES, (-0.2, 0.15, aspect + 0.2, 0.45)):
                pen.fill(path_of([(x - wide - 0.01, top), (x, top - 0.08), (x + wide + 0.01, top)]), (176, 132, 120))
        for row in range(int((HORIZON - top) / 0.09)):
            for column in (-1, 1):
                wx, wy = x + column * wide * 0.45 - 0.02, top + 0.03 + row * 0.09
                (glow if time == "night" else pen).rect(wx, wy, 0.04, 0.045, window)

    _each(aspect, dice, 0.2, house)


def _draw_ground(pen: Pen, scene: Scene, aspect: float, ground: Colour, dice: random.Random) -> None:
    top = HORIZON + 0.02
    with pen.clad(GROUND_MATERIAL[scene.place], (-0.1, top - 0.02, aspect + 0.1, 1.0)):
        _gradient(pen, aspect, top, 1.0, mix(ground, (255, 255, 255), 0.12), mix(ground, (90, 90, 90), 0.1))
    match scene.place:
        case "snow":
            _each(aspect, dice, 0.035, lambda x: pen.ellipse(x, dice.uniform(0, 1), 0.006, 0.006, (250, 252, 255), 0.8))
        case "meadow" | "forest" | "mountains":
            blades = skia.Path()

            def blade(x: float) -> None:
                y = dice.uniform(top + 0.03, 1)
                blades.moveTo(x, y)
                blades.lineTo(x + dice.uniform(-0.008, 0.008), y - 0.025)

            for _ in range(3):
                _each(aspect, dice, 0.03, blade)
            pen.stroke(blades, mix(ground, (70, 120, 60), 0.4), 0.005)
            if scene.place == "meadow":
                for colour in ((250, 246, 250), (244, 214, 120), (226, 160, 190)):
                    _each(aspect, dice, 0.17, lambda x, c=colour: _flower(pen, x, dice.uniform(top + 0.05, 0.98), c))
        case "beach" | "desert":
            _each(
                aspect,
                dice,
                0.05,
                lambda x: pen.ellipse(x, dice.uniform(top + 0.04, 1), 0.008, 0.004, mix(ground, (150, 110, 70), 0.35)),
            )
        case "city":
            for y in (top + 0.1, top + 0.24):
                pen.rect(-0.01, y, aspect + 0.02, 0.006, mix(ground, (90, 90, 100), 0.3))
    path = smooth([(-0.1, top), (aspect / 2, top - 0.006), (aspect + 0.1, top), (aspect / 2, top + 0.006)])
    pen.fill(path_of(path), mix(ground, (255, 255, 255), 0.12))


def _flower(pen: Pen, x: float, y: float, colour: Colour) -> None:
    for k in range(4):
        a = k * math.pi / 2
        pen.ellipse(x + 0.009 * math.cos(a), y + 0.009 * math.sin(a), 0.008, 0.008, colour)
    pen.ellipse(x, y, 0.006, 0.006, (238, 190, 80))
