"""What animals wear: on the face and head (in head radii), and at the neck (in animal heights)."""

from __future__ import annotations

import skia

from .drawing import INK, WHITE, Colour, Pen, mix
from .materials import CLOTH, FELT, METAL
from .outlines import ellipse_path, path_of, smooth
from .palette import PAINT
from .scene import Animal
from .species import Build


def draw_face_accessory(pen: Pen, animal: Animal, build: Build) -> None:
    """Glasses, hat or crown."""
    paint = PAINT[animal.accessory_colour]
    line = mix(paint, INK, 0.55)
    edge = 0.014 / build.head_r
    if animal.accessory == "glasses":
        r, dx = build.eye_r * 1.42, 0.16 * animal.turn
        frame = skia.Path()
        for side in (-1, 1):
            x = dx + side * max(build.eye_x, r * 1.04)
            pen.ellipse(x, build.eye_y, r, r, WHITE, 0.18)
            frame.addPath(ellipse_path(x, build.eye_y, r, r))
        gap = max(build.eye_x, r * 1.04) - r
        frame.moveTo(dx - gap, build.eye_y)
        frame.quadTo(dx, build.eye_y - 0.08, dx + gap, build.eye_y)
        with pen.bare():
            pen.rope(frame, paint, line, 0.13, edge * 0.7)
    elif animal.accessory in ("hat", "crown"):
        pen.canvas.save()
        pen.canvas.translate(0.05 * animal.turn, build.hat_y)
        pen.canvas.scale(build.hat_scale, build.hat_scale)
        material = FELT if animal.accessory == "hat" else METAL
        with pen.clad(material, (-0.9, -0.8, 0.9, 0.25), 1 / build.head_r / build.hat_scale):
            _draw_on_top(pen, animal.accessory, paint, line, edge)
        pen.canvas.restore()


def _draw_on_top(pen: Pen, what: str, paint: Colour, line: Colour, edge: float) -> None:
    if what == "hat":
        top = [(-0.44, 0.06), (-0.47, -0.62), (0.47, -0.62), (0.44, 0.06)]
        pen.shape(path_of(top), paint, line, edge)
        band = [(-0.445, -0.03), (-0.455, -0.22), (0.455, -0.22), (0.445, -0.03)]
        pen.fill(path_of(band), mix(paint, INK, 0.4))
        pen.shape(ellipse_path(0, 0.06, 0.8, 0.13), paint, line, edge)
    else:
        points = [
            (-0.5, 0.14),
            (-0.6, -0.5),
            (-0.27, -0.2),
            (0, -0.62),
            (0.27, -0.2),
            (0.6, -0.5),
            (0.5, 0.14),
        ]
        pen.shape(path_of(points), paint, line, edge)
        for x, y in ((-0.6, -0.52), (0, -0.64), (0.6, -0.52)):
            pen.shape(ellipse_path(x, y, 0.09, 0.09), mix(paint, WHITE, 0.4), line, edge * 0.7)
        pen.stroke(path_of([(-0.47, 0.0), (0.47, 0.0)], close=False), line, edge * 0.7)


def draw_neck_accessory(pen: Pen, animal: Animal, build: Build) -> None:
    """Scarf or bow tie."""
    paint = PAINT[animal.accessory_colour]
    line, y, edge = mix(paint, INK, 0.55), build.neck_y, 0.013
    with pen.clad(CLOTH if animal.accessory == "scarf" else FELT, (-0.36, y - 0.12, 0.36, y + 0.26)):
        if animal.accessory == "scarf":
            wide = build.body * 0.86 + 0.01
            end = smooth([(0.05, y + 0.03), (0.13, y + 0.02), (0.155, y + 0.17), (0.15, y + 0.2), (0.07, y + 0.2)])
            pen.shape(path_of(end), mix(paint, INK, 0.12), line, edge)
            for k in range(4):
                x = 0.076 + 0.023 * k
                pen.stroke(path_of([(x, y + 0.2), (x, y + 0.225)], close=False), line, 0.009)
            band = skia.Path()
            band.moveTo(-wide, y - 0.012)
            band.quadTo(0, y + 0.075, wide, y - 0.012)
            pen.rope(band, paint, line, 0.085, edge)
        elif animal.accessory == "bow tie":
            for side in (-1, 1):
                wing = [
                    (0.0, y + 0.03),
                    (side * 0.13, y - 0.035),
                    (side * 0.15, y + 0.03),
                    (side * 0.13, y + 0.095),
                ]
                pen.shape(path_of(wing), paint, line, edge)
            pen.shape(ellipse_path(0, y + 0.03, 0.035, 0.04), mix(paint, INK, 0.15), line, edge)
