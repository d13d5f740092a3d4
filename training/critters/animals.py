"""Draws one animal: feet at (0, 0), ear tips near (0, -1), y down; the caller places and scales it."""

from __future__ import annotations

import random
from dataclasses import dataclass

import skia

from .accessories import draw_face_accessory, draw_neck_accessory
from .drawing import INK, WHITE, Colour, Pen, mix, shift
from .faces import draw_ears, draw_face, moved
from .materials import coat
from .outlines import Points, ellipse_path, mirrored, path_of, smooth, tufted
from .palette import PAINT
from .scene import Animal
from .species import BUILDS, Build

EDGE = 0.014
"""Outline width in animal heights."""
ORANGE: Colour = (246, 160, 40)


@dataclass(frozen=True)
class Coat:
    """The colours of one animal."""

    main: Colour
    pale: Colour
    deep: Colour
    line: Colour


def coat_of(animal: Animal) -> Coat:
    """Main, belly, pattern and outline colour."""
    main = shift(PAINT[animal.colour], animal.hue_shift, animal.light_shift)
    if animal.colour == "white":
        return Coat(mix(main, WHITE, 0.3), (255, 240, 228), (176, 180, 196), (112, 116, 136))
    return Coat(main, mix(main, (255, 250, 240), 0.62), mix(main, INK, 0.36), mix(main, INK, 0.58))


def draw_animal(pen: Pen, animal: Animal) -> None:
    """Draw the animal and mark its parts on the pen."""
    build, colours, canvas = BUILDS[animal.species], coat_of(animal), pen.canvas
    dice = random.Random(animal.seed)
    canvas.save()
    canvas.scale(animal.facing, 1)
    pen.mark("animal", 0, -0.5, 0.5)
    with pen.clad(coat(animal.species, animal.pattern, "body"), (-0.6, -0.8, 0.6, 0.05)):
        for copy in animal.copies("tail"):
            with moved(canvas, copy):
                canvas.scale(copy.side, 1)
                _draw_tail(pen, animal, build, colours)
        _draw_body(pen, animal, build, colours, dice)
    for copy in animal.copies("head"):
        canvas.save()
        canvas.translate(copy.dx, build.head_y + copy.dy)
        canvas.rotate(animal.tilt + copy.turn)
        scale = build.head_r * animal.head_scale * copy.scale
        canvas.scale(scale, scale)
        with pen.clad(coat(animal.species, animal.pattern, "head"), (-1.8, -2.2, 1.8, 1.2), 1 / build.head_r):
            _draw_head(pen, animal, build, colours, dice)
        canvas.restore()
    draw_neck_accessory(pen, animal, build)
    canvas.restore()


def _coated(pen: Pen, animal: Animal, coat: Coat, outline: Points, unit: float, dice: random.Random) -> None:
    """Fill an outline with the coat and its pattern; `unit` is one animal height in present units."""
    if animal.pattern == "fluffy":
        outline = tufted(outline, 0.034 * unit, 0.05 * unit)
    path = path_of(outline)
    pen.fill(path, coat.main)
    if animal.pattern != "plain":
        pen.canvas.save()
        pen.canvas.clipPath(path, doAntiAlias=True)
        _draw_pattern(pen, animal.pattern, coat, outline, unit, dice)
        pen.canvas.restore()
    pen.stroke(path, coat.line, EDGE * unit)


def _draw_pattern(pen: Pen, pattern: str, coat: Coat, outline: Points, unit: float, dice: random.Random) -> None:
    left, top = outline.min(0)
    right, bottom = outline.max(0)
    width, height = right - left, bottom - top
    if pattern == "spotted":
        for row in range(5):
            for column in range(5):
                x = left + width * (column + 0.5 * (row % 2) + dice.uniform(-0.18, 0.18)) / 4.5
                y = top + height * (row + dice.uniform(0.3, 0.6)) / 5
                radius = unit * dice.uniform(0.026, 0.04)
                pen.ellipse(x, y, radius, radius * 0.9, coat.deep)
    elif pattern == "striped":
        middle = (left + right) / 2
        for row in range(5):
            y = top + height * (row + 0.35) / 5
            for side in (-1, 1):
                tip = middle + side * width * (0.16 + 0.05 * (row % 2))
                edge = middle + side * width * 0.56
                w = 0.026 * unit
                pen.fill(path_of([(tip, y + w), (edge, y - w), (edge, y + w * 1.5)]), coat.deep)
        for k in (-1, 0, 1):
            x, w = middle + k * 0.075 * unit, 0.017 * unit
            deep = 0.13 * unit if k == 0 else 0.09 * unit
            pen.fill(path_of([(x - w, top - w), (x + w, top - w), (x, top + deep)]), coat.deep)
    else:
        strokes = skia.Path()
        for row in range(9):
            for column in range(9):
                x = left + width * (column + dice.uniform(0.2, 0.8)) / 9
                y = top + height * (row + dice.uniform(0.2, 0.8)) / 9
                lean = (x - (left + right) / 2) / width * 0.03 * unit
                strokes.moveTo(x, y)
                strokes.quadTo(x + lean * 0.2, y + 0.012 * unit, x + lean, y + 0.026 * unit)
        pen.stroke(strokes, mix(coat.main, coat.deep, 0.6), 0.006 * unit)


def _draw_head(pen: Pen, animal: Animal, build: Build, coat: Coat, dice: random.Random) -> None:
    unit = 1 / build.head_r
    draw_ears(pen, animal, coat.main, coat.pale, coat.deep, coat.line, EDGE * unit)
    _coated(pen, animal, coat, smooth(mirrored(build.head)), unit, dice)
    draw_face(pen, animal, build, coat.main, coat.pale, coat.line, EDGE * unit)
    draw_face_accessory(pen, animal, build)


def _draw_body(pen: Pen, animal: Animal, build: Build, coat: Coat, dice: random.Random) -> None:
    wide, top = build.body * animal.body_scale, build.body_top
    bird, frog = animal.species in ("owl", "penguin"), animal.species == "frog"
    foot = ORANGE if bird else coat.main
    bottom = -0.13 if animal.standing and not bird else -0.015
    if bird:
        bottom = -0.05 if animal.standing else -0.02
    shoulder = wide * (0.86 if bird else 0.74)
    legs = skia.Path()
    if animal.standing and not bird:
        for side in (-1, 1):
            legs.moveTo(side * wide * 0.52, -0.2)
            legs.lineTo(side * wide * 0.52, -0.065)
        pen.rope(legs, coat.main, coat.line, 0.125, EDGE)
    half = [
        (0.0, top),
        (shoulder * 0.8, top + 0.03),
        (shoulder, top + 0.12),
        (wide, bottom - 0.15),
        (wide * 0.78, bottom - 0.02),
        (0.0, bottom),
    ]
    if frog:
        for side in (-1, 1):
            pen.shape(ellipse_path(side * wide * 0.95, -0.12, 0.13, 0.11), coat.main, coat.line, EDGE)
    _coated(pen, animal, coat, smooth(mirrored(half)), 1.0, dice)
    belly_y = (top + bottom) / 2 + 0.05
    if animal.species == "penguin":
        pen.ellipse(0.01, belly_y - 0.03, wide * 0.68, (bottom - top) * 0.44, mix(coat.pale, WHITE, 0.6))
    else:
        pen.ellipse(0, belly_y, wide * 0.56, (bottom - top) * 0.36, coat.pale)
    if animal.species == "owl":
        chevrons = skia.Path()
        for row in range(3):
            for k in range(-1, 2) if row != 1 else (-0.5, 0.5):
                x, y = k * 0.085, belly_y - 0.05 + row * 0.055
                chevrons.moveTo(x - 0.022, y)
                chevrons.quadTo(x, y + 0.03, x + 0.022, y)
        pen.stroke(chevrons, coat.deep, 0.01)
    _draw_limbs(pen, animal, coat, wide, shoulder, top, foot)


def _draw_limbs(pen: Pen, animal: Animal, coat: Coat, wide: float, shoulder: float, top: float, foot: Colour) -> None:
    """Feet, and arms or wings, in front of the body."""
    bird = animal.species in ("owl", "penguin")
    line = mix(foot, INK, 0.5) if bird else coat.line
    for side in (-1, 1):
        x = side * wide * 0.52
        if animal.species == "frog" and not animal.standing:
            x = side * wide * 1.02
        pen.shape(ellipse_path(x + 0.012, -0.034, 0.095, 0.038), foot, line, EDGE)
    if bird:
        length = 0.3 if animal.species == "penguin" else 0.26
        for side in (-1, 1):
            spread = 0.09 if animal.standing else 0.05
            wing = smooth(
                [
                    (side * shoulder * 0.86, top + 0.06),
                    (side * (wide + 0.03), top + 0.14),
                    (side * (wide + spread), top + 0.1 + length),
                    (side * wide * 0.82, top + 0.02 + length),
                ]
            )
            pen.shape(path_of(wing), mix(coat.main, coat.deep, 0.25), coat.line, EDGE)
        return
    arms = skia.Path()
    for side in (-1, 1):
        if animal.standing:
            arms.moveTo(side * shoulder * 0.95, top + 0.13)
            arms.quadTo(side * (wide + 0.05), top + 0.18, side * (wide + 0.055), top + 0.24)
        else:
            arms.moveTo(side * 0.078, top + 0.19)
            arms.lineTo(side * 0.07, -0.05)
    pen.rope(arms, coat.main, coat.line, 0.09, EDGE)


def _draw_tail(pen: Pen, animal: Animal, build: Build, coat: Coat) -> None:
    """The tail, at the left (the side away from `facing`)."""
    wide, tail = build.body * animal.body_scale, skia.Path()
    y = -0.16 if animal.standing else -0.09
    match animal.species:
        case "cat":
            tail.moveTo(-wide * 0.6, y)
            tail.cubicTo(-wide - 0.2, y + 0.08, -wide - 0.2, y - 0.14, -wide - 0.1, y - 0.2)
            tail.quadTo(-wide - 0.04, y - 0.25, -wide - 0.1, y - 0.31)
            pen.rope(tail, coat.main, coat.line, 0.075, EDGE)
        case "dog":
            tail.moveTo(-wide * 0.7, y)
            tail.quadTo(-wide - 0.12, y, -wide - 0.15, y - 0.16)
            pen.rope(tail, coat.main, coat.line, 0.07, EDGE)
        case "mouse":
            tail.moveTo(-wide * 0.6, y + 0.03)
            tail.cubicTo(-wide - 0.14, y + 0.12, -wide - 0.22, y - 0.06, -wide - 0.12, y - 0.1)
            tail.quadTo(-wide - 0.04, y - 0.14, -wide - 0.1, y - 0.24)
            pen.rope(tail, mix(coat.main, (250, 170, 180), 0.6), coat.line, 0.034, EDGE)
        case "pig":
            tail.moveTo(-wide * 0.8, y - 0.04)
            tail.cubicTo(-wide - 0.2, y - 0.02, -wide - 0.13, y - 0.17, -wide - 0.06, y - 0.11)
            tail.cubicTo(-wide - 0.02, y - 0.04, -wide - 0.14, y - 0.02, -wide - 0.16, y - 0.12)
            pen.rope(tail, coat.main, coat.line, 0.036, EDGE)
        case "fox":
            outline = smooth(
                [
                    (-wide * 0.5, y + 0.05),
                    (-wide - 0.14, y + 0.05),
                    (-wide - 0.25, y - 0.09),
                    (-wide - 0.17, y - 0.32),
                    (-wide - 0.08, y - 0.16),
                    (-wide * 0.6, y - 0.06),
                ]
            )
            path = path_of(tufted(outline, 0.034, 0.05) if animal.pattern == "fluffy" else outline)
            pen.fill(path, coat.main)
            pen.canvas.save()
            pen.canvas.clipPath(path, doAntiAlias=True)
            pen.ellipse(-wide - 0.18, y - 0.31, 0.13, 0.13, mix(coat.pale, WHITE, 0.6))
            pen.canvas.restore()
            pen.stroke(path, coat.line, EDGE)
        case "bear" | "rabbit":
            r = 0.075 if animal.species == "rabbit" else 0.06
            colour = mix(coat.pale, WHITE, 0.5) if animal.species == "rabbit" else coat.main
            pen.shape(ellipse_path(-wide - 0.03, y - 0.01, r, r), colour, coat.line, EDGE)
        case "owl" | "penguin":
            feathers = [(-wide * 0.5, -0.2), (-wide - 0.1, -0.02), (-wide * 0.3, -0.03)]
            pen.shape(path_of(feathers), coat.deep, coat.line, EDGE)
        case _:
            return
    pen.mark("tail", -wide - 0.08, y - 0.1, 0.12)
