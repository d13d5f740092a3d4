"""Ears and faces, in head radii about the head's centre."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import skia

from .drawing import INK, WHITE, Colour, Pen, mix
from .outlines import ellipse_path, path_of, smooth
from .scene import Animal, Placement
from .species import Build

ROSE: Colour = (244, 158, 166)
BEAK: Colour = (248, 166, 40)
EARLESS = ("penguin", "frog")


@contextmanager
def moved(canvas: skia.Canvas, copy: Placement) -> Iterator[None]:
    """Draw inside with the canvas moved, turned and scaled as this copy of a part asks."""
    canvas.save()
    canvas.translate(copy.dx, copy.dy)
    canvas.rotate(copy.turn)
    canvas.scale(copy.scale, copy.scale)
    yield
    canvas.restore()


def draw_ears(pen: Pen, animal: Animal, main: Colour, pale: Colour, deep: Colour, line: Colour, edge: float) -> None:
    """The ears (tufts of an owl), behind the head."""
    if animal.species in EARLESS:
        return
    for copy in animal.copies("ear"):
        with moved(pen.canvas, copy):
            _draw_ear(pen, animal.species, copy.side, main, pale, deep, line, edge)


def _draw_ear(
    pen: Pen, species: str, side: int, main: Colour, pale: Colour, deep: Colour, line: Colour, edge: float
) -> None:
    inner = mix(pale, ROSE, 0.55)

    def at(*points: tuple[float, float]) -> skia.Path:
        return path_of(smooth([(side * x, y) for x, y in points]))

    def straight(*points: tuple[float, float]) -> skia.Path:
        return path_of([(side * x, y) for x, y in points])

    middle = (0.75, -0.95, 0.4)
    match species:
        case "cat":
            pen.shape(straight((0.18, -0.7), (0.86, -1.46), (1.06, -0.1)), main, line, edge)
            pen.fill(straight((0.42, -0.72), (0.82, -1.2), (0.93, -0.4)), inner)
        case "fox":
            pen.shape(straight((0.14, -0.66), (0.82, -1.54), (1.08, -0.05)), main, line, edge)
            pen.fill(straight((0.59, -1.24), (0.82, -1.54), (0.91, -1.02)), mix(deep, INK, 0.5))
            pen.fill(straight((0.46, -0.72), (0.74, -1.1), (0.9, -0.4)), mix(pale, WHITE, 0.5))
        case "dog":
            ear = at((0.5, -0.86), (1.0, -0.76), (1.34, -0.1), (1.26, 0.55), (0.96, 0.58), (0.78, 0.0))
            pen.shape(ear, mix(main, deep, 0.75), line, edge)
            middle = (1.08, -0.1, 0.5)
        case "bear":
            pen.shape(ellipse_path(side * 0.78, -0.74, 0.4, 0.4), main, line, edge)
            pen.ellipse(side * 0.78, -0.74, 0.23, 0.23, inner)
        case "mouse":
            pen.shape(ellipse_path(side * 0.92, -0.64, 0.64, 0.64), main, line, edge)
            pen.ellipse(side * 0.92, -0.64, 0.44, 0.44, inner)
            middle = (0.92, -0.64, 0.64)
        case "rabbit":
            ear = at((0.16, -0.6), (0.14, -1.35), (0.46, -2.0), (0.76, -1.4), (0.64, -0.6))
            pen.shape(ear, main, line, edge)
            pen.fill(at((0.32, -0.8), (0.31, -1.35), (0.47, -1.75), (0.6, -1.38), (0.5, -0.8)), inner)
            middle = (0.45, -1.3, 0.65)
        case "pig":
            pen.shape(straight((0.26, -0.78), (0.98, -1.16), (1.08, -0.3)), main, line, edge)
            pen.fill(straight((0.5, -0.78), (0.88, -0.98), (0.94, -0.5)), inner)
        case _:
            pen.shape(straight((0.3, -0.7), (1.06, -1.26), (1.04, -0.2)), deep, line, edge)
    pen.mark("ear", side * middle[0], middle[1], middle[2])


def draw_face(pen: Pen, animal: Animal, build: Build, main: Colour, pale: Colour, line: Colour, edge: float) -> None:
    """Muzzle or beak, mouth, and the eyes; shifted sideways a little by the head's turn."""
    dx = 0.16 * animal.turn
    pen.canvas.save()
    pen.canvas.translate(dx, 0)
    _draw_mask(pen, animal.species, pale)
    if animal.species == "frog":
        for copy in animal.copies("eye"):
            with moved(pen.canvas, copy):
                bump = ellipse_path(copy.side * build.eye_x, build.eye_y + 0.02, 0.44, 0.44)
                pen.shape(bump, main, line, edge)
    for copy in animal.copies("eye"):
        with pen.bare(), moved(pen.canvas, copy):
            _draw_eye(pen, animal, build, copy.side, line, edge)
    for copy in animal.copies("mouth"):
        with moved(pen.canvas, copy):
            _draw_snout(pen, animal.species, main, pale, line, edge)
    pen.canvas.restore()


def _draw_mask(pen: Pen, species: str, pale: Colour) -> None:
    """Light areas under the eyes."""
    if species == "penguin":
        for side in (-1, 1):
            pen.ellipse(side * 0.36, 0.08, 0.46, 0.56, mix(pale, WHITE, 0.6))
        pen.ellipse(0, 0.42, 0.5, 0.36, mix(pale, WHITE, 0.6))
    elif species == "owl":
        for side in (-1, 1):
            pen.ellipse(side * 0.44, -0.06, 0.5, 0.54, pale)
    elif species == "fox":
        for side in (-1, 1):
            cheek = [(0, 0.1), (0.35, 0.34), (1.08, 0.3), (0.72, 0.56), (0.28, 0.86), (0, 0.93)]
            pen.fill(path_of([(side * x, y) for x, y in cheek]), mix(pale, WHITE, 0.6))


def _draw_eye(pen: Pen, animal: Animal, build: Build, side: int, line: Colour, edge: float) -> None:
    r = build.eye_r * animal.eye_scale
    x, y = side * build.eye_x, build.eye_y
    pen.shape(ellipse_path(x, y, r, r * 1.1), WHITE, mix(line, INK, 0.5), edge * 0.8)
    px, py = x + animal.gaze[0] * r * 0.26 * animal.facing, y + animal.gaze[1] * r * 0.3
    pen.ellipse(px, py, r * 0.58, r * 0.64, INK)
    pen.ellipse(px + r * 0.2 * animal.facing, py - r * 0.24, r * 0.2, r * 0.2, WHITE)
    pen.mark("eye", x, y, r)


def _draw_snout(pen: Pen, species: str, main: Colour, pale: Colour, line: Colour, edge: float) -> None:
    mouth = skia.Path()
    nose: Colour = INK
    nose_y, mouth_y = 0.3, 0.5
    match species:
        case "owl" | "penguin":
            w, top, tip = (0.17, 0.08, 0.52) if species == "owl" else (0.26, 0.12, 0.46)
            beak = path_of(smooth([(0, top), (w, top + 0.12), (0, tip), (-w, top + 0.12)]))
            with pen.bare():
                pen.shape(beak, BEAK, mix(BEAK, INK, 0.5), edge * 0.8)
            pen.mark("mouth", 0, (top + tip) / 2, 0.25)
            return
        case "frog":
            mouth.moveTo(-0.8, 0.12)
            mouth.quadTo(0, 0.72, 0.8, 0.12)
            pen.stroke(mouth, line, edge * 1.3)
            for side in (-1, 1):
                with pen.bare():
                    pen.ellipse(side * 0.13, -0.1, 0.05, 0.04, line)
                pen.ellipse(side * 0.95, 0.2, 0.17, 0.12, mix(main, ROSE, 0.6))
            pen.mark("mouth", 0, 0.35, 0.5)
            return
        case "pig":
            pen.shape(ellipse_path(0, 0.28, 0.46, 0.33), mix(pale, ROSE, 0.45), line, edge)
            for side in (-1, 1):
                with pen.bare():
                    pen.ellipse(side * 0.17, 0.28, 0.08, 0.13, mix(line, INK, 0.3))
            mouth.moveTo(-0.26, 0.7)
            mouth.quadTo(0, 0.84, 0.26, 0.7)
            pen.stroke(mouth, line, edge)
            pen.mark("mouth", 0, 0.5, 0.4)
            return
        case "cat":
            pen.ellipse(0, 0.46, 0.46, 0.34, pale)
            nose = (236, 110, 130)
            whiskers = skia.Path()
            for side in (-1, 1):
                for k in (-1, 0, 1):
                    whiskers.moveTo(side * 0.52, 0.42 + 0.07 * k)
                    whiskers.lineTo(side * 1.2, 0.4 + 0.17 * k)
            pen.stroke(whiskers, mix(line, INK, 0.3), edge * 0.6)
        case "dog":
            pen.ellipse(0, 0.48, 0.54, 0.46, pale)
            nose_y, mouth_y = 0.22, 0.5
            tongue = path_of(smooth([(-0.13, 0.62), (0.13, 0.62), (0.12, 0.86), (0, 0.94), (-0.12, 0.86)]))
            with pen.bare():
                pen.shape(tongue, (238, 104, 120), (170, 50, 70), edge * 0.6)
        case "bear":
            pen.ellipse(0, 0.4, 0.48, 0.4, pale)
            nose_y, mouth_y = 0.22, 0.48
        case "fox":
            nose_y, mouth_y = 0.56, 0.72
        case "rabbit":
            pen.ellipse(0, 0.44, 0.42, 0.34, mix(pale, WHITE, 0.4))
            with pen.bare():
                pen.fill(path_of([(-0.12, 0.55), (0.12, 0.55), (0.11, 0.8), (-0.11, 0.8)]), WHITE)
            pen.stroke(path_of([(-0.12, 0.55), (0.12, 0.55), (0.11, 0.8), (-0.11, 0.8)]), line, edge * 0.5)
            nose, mouth_y = (236, 110, 130), 0.5
        case _:
            pen.ellipse(0, 0.56, 0.36, 0.34, pale)
            nose, nose_y, mouth_y = (236, 96, 120), 0.44, 0.66
    wide = 0.17 if species in ("dog", "bear") else 0.13
    nose_tip = [(-wide, nose_y - 0.05), (0, nose_y - 0.1), (wide, nose_y - 0.05), (0, nose_y + 0.13)]
    with pen.bare():
        pen.fill(path_of(smooth(nose_tip)), nose)
    mouth.moveTo(-0.26, mouth_y)
    mouth.quadTo(-0.14, mouth_y + 0.17, 0, mouth_y + 0.02)
    mouth.quadTo(0.14, mouth_y + 0.17, 0.26, mouth_y)
    pen.stroke(mouth, mix(line, INK, 0.4), edge * 0.8)
    pen.mark("mouth", 0, mouth_y, 0.3)
