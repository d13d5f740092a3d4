"""The pictures that the observer learns from: none to nine animals of any size, some malformed, and their labels.

A sample is drawn by lot from its seed alone.  Pictures are 256×256 windows of square, wide and tall scenes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import skia
from numpy.typing import NDArray

from .accessories import draw_face_accessory, draw_neck_accessory
from .drawing import INK, Pen, mix
from .materials import coat
from .observer_faults import malform, sample_faults
from .observer_parts import SeenPart, seen_parts
from .outlines import ellipse_path, path_of, smooth
from .palette import PAINT
from .renderer import render
from .scene import (
    ACCESSORIES,
    COLOURS,
    PLACES,
    SHIPPED_WORLD,
    SPECIES,
    TIMES,
    Animal,
    PlacedAnimal,
    Scene,
    framed,
    sample_animal,
)
from .species import BUILDS
from .texture import Weaver

SIDE = 256
MOST = 9
SMALLEST, LARGEST = 0.125, 1.0
"""Heights of animals as fractions of the picture's shorter side."""
SIZES = ((256, 256), (256, 256), (256, 256), (384, 256), (512, 256), (256, 384), (256, 512))
FRAMED = 0.75
"""Share of the detailed world's lone animals that are framed as training scenes frame them."""
SEEN, HIDDEN = 0.2, 0.08
"""What shows at least this much is marked; less than the second is not there; what lies between is not judged."""


@dataclass(frozen=True)
class Sample:
    """One scene, the window of it that is the picture, and the faults of its only animal."""

    scene: Scene
    width: int
    height: int
    window: tuple[int, int, int, int]
    faults: tuple[str, ...]
    seed: int

    @property
    def lone(self) -> Animal | None:
        """The animal, where there is exactly one."""
        return self.scene.animals[0].animal if len(self.scene.animals) == 1 else None


def sample_of(seed: int, world: str = SHIPPED_WORLD) -> Sample:
    """A third of the samples hold one whole animal, a quarter one malformed animal, the others none or two to nine.

    In the detailed world three of four lone animals are as large in the picture as those of training scenes: from far
    away to close-ups, of which only what is in the frame is marked.
    """
    rng = np.random.default_rng((seed, 7))
    lot = rng.random()
    if lot < 0.58:
        return _lone(seed, rng, lot > 0.34, world)
    count = 0 if lot < 0.62 else int(rng.integers(2, MOST + 1))
    return crowd(seed, count, rng, world)


def _lone(seed: int, rng: np.random.Generator, faulty: bool, world: str) -> Sample:
    width, height, window = _frame(rng)
    animal = sample_animal(rng)
    faults: tuple[str, ...] = ()
    if faulty:
        faults = sample_faults(animal.species, rng)
        animal = malform(animal, faults, rng)
    if world == "detailed" and rng.random() < FRAMED:
        animal, x, feet, size = framed(animal, rng)
        placed = _on_stage(animal, x, feet, size, window, width, height)
        return Sample(_behind(rng, (placed,), world), width, height, window, faults, seed)
    # Parts of small animals are not judged: malformed ones are large enough for theirs to be seen.
    size = float(np.exp(rng.uniform(np.log(0.3 if faulty else SMALLEST), np.log(LARGEST))))
    if rng.random() < 0.4:
        size = float(rng.uniform(0.5, 0.78))  # the size of the animals that critters draws
    scene = _behind(rng, (_place(animal, size, rng, window, width, height),), world)
    return Sample(scene, width, height, window, faults, seed)


def crowd(seed: int, count: int, rng: np.random.Generator, world: str = SHIPPED_WORLD) -> Sample:
    """`count` animals (0 to 9) anywhere in the picture, overlapping a little, one in ten malformed."""
    width, height, window = _frame(rng)
    largest = {0: 0.5, 2: 0.75, 3: 0.6}.get(count, 1.3 / np.sqrt(max(count, 1)) * 0.7)
    placed: list[PlacedAnimal] = []
    while len(placed) < count:
        size = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(max(largest, 0.2)))))
        animal = sample_animal(rng)
        if placed and rng.random() < 0.3:  # repeated objects look alike
            animal = replace(placed[0].animal, seed=animal.seed, standing=animal.standing, tilt=animal.tilt)
        if rng.random() < 0.1:
            animal = malform(animal, sample_faults(animal.species, rng), rng)
        new = _place(animal, size, rng, window, width, height)
        if all(_apart(new, old) for old in placed):
            placed.append(new)
        else:
            largest *= 0.97
    placed.sort(key=lambda p: p.ground_y)
    return Sample(_behind(rng, tuple(placed), world), width, height, window, (), seed)


def _frame(rng: np.random.Generator) -> tuple[int, int, tuple[int, int, int, int]]:
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    left, top = int(rng.integers(width - SIDE + 1)), int(rng.integers(height - SIDE + 1))
    return width, height, (left, top, SIDE, SIDE)


def _behind(rng: np.random.Generator, animals: tuple[PlacedAnimal, ...], world: str) -> Scene:
    place, time = PLACES[int(rng.integers(len(PLACES)))], TIMES[int(rng.choice(3, p=(0.5, 0.22, 0.28)))]
    return Scene(animals, place, time, int(rng.integers(2**31)), world)


def _place(
    animal: Animal,
    size: float,
    rng: np.random.Generator,
    window: tuple[int, int, int, int],
    width: int,
    height: int,
) -> PlacedAnimal:
    """Somewhere in the window, wholly inside where it fits: in fractions of the stage, the centred square."""
    reach = 0.34 * size
    x = float(rng.uniform(min(reach, 0.5), max(1 - reach, 0.5)))
    feet = float(rng.uniform(min(size + 0.01, 0.99), 0.99))
    return _on_stage(animal, x, feet, size, window, width, height)


def _on_stage(
    animal: Animal, x: float, feet: float, size: float, window: tuple[int, int, int, int], width: int, height: int
) -> PlacedAnimal:
    """An animal whose x and feet are fractions of the window."""
    stage = min(width, height)
    x = (window[0] + x * SIDE - (width - stage) / 2) / stage
    feet = (window[1] + feet * SIDE - (height - stage) / 2) / stage
    return PlacedAnimal(animal, x, feet, size)


def _apart(one: PlacedAnimal, other: PlacedAnimal) -> bool:
    """Whether two animals, as upright ellipses, overlap a little at most."""
    dx = (one.x - other.x) / (0.3 * (one.height + other.height))
    dy = (one.ground_y - one.height / 2 - other.ground_y + other.height / 2) / (0.5 * (one.height + other.height))
    return float(np.hypot(dx, dy)) > 0.85


def draw(sample: Sample) -> tuple[NDArray[np.uint8], list[SeenPart]]:
    """The window, uint8 `(256, 256, 3)`, and what can be seen in it, in its pixels.

    Four samples in ten get coloured scraps that are no animals, where there is room for them.
    """
    left, top, wide, high = sample.window
    pixels = render(sample.scene, sample.width, sample.height)[top : top + high, left : left + wide]
    parts = seen_parts(sample.scene, sample.width, sample.height, sample.window)
    rng = np.random.default_rng((sample.seed, 8))
    if rng.random() < 0.4:
        weaver = Weaver(SIDE, SIDE) if sample.scene.world == "detailed" else None
        pixels = _with_scraps(pixels, [part for part in parts if part.kind == "animal"], rng, weaver)
    return np.ascontiguousarray(pixels), parts


def _with_scraps(
    pixels: NDArray[np.uint8], animals: list[SeenPart], rng: np.random.Generator, weaver: Weaver | None
) -> NDArray[np.uint8]:
    """Faceless blobs and sticks in coats' colours, and things to wear that nobody wears, as weak models leave them."""
    canvas_pixels = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    info = skia.ImageInfo.Make(SIDE, SIDE, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
    canvas = skia.Surface.MakeRasterDirect(info, canvas_pixels).getCanvas()
    pen = Pen(canvas, weaver=weaver)
    for _ in range(int(rng.integers(2, 9))):
        size = float(rng.uniform(5, 26))
        x, y = (float(v) for v in rng.uniform(size, SIDE - size, 2))
        if any(np.hypot(x - a.x, y - a.y) < 1.15 * a.radius + size for a in animals):
            continue
        colour = PAINT[COLOURS[int(rng.integers(len(COLOURS)))]]
        line, edge = mix(colour, INK, 0.5), float(rng.uniform(0.5, 2))
        material = coat(SPECIES[int(size) % len(SPECIES)], "plain", "body")
        with pen.clad(material, (x - 2 * size, y - 2 * size, x + 2 * size, y + 2 * size), 3 * size):
            match int(rng.integers(5)):
                case 3 | 4:
                    _draw_worn(pen, x, y, 1.6 * size, rng)
                case 0:
                    angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
                    radii = size * rng.uniform(0.4, 1.0, 7)
                    outline = [(x + float(r * np.cos(a)), y + float(r * np.sin(a))) for a, r in zip(angles, radii)]
                    pen.shape(path_of(smooth(outline)), colour, line, edge)
                case 1:
                    stick = path_of([(x, y - size), (x + float(rng.uniform(-size, size)) / 2, y + size)], close=False)
                    pen.rope(stick, colour, line, size * 0.4, edge)
                case _:
                    pen.shape(ellipse_path(x, y, size * float(rng.uniform(0.3, 1)), size * 0.7), colour, line, edge)
    return canvas_pixels[:, :, :3]


def _draw_worn(pen: Pen, x: float, y: float, size: float, rng: np.random.Generator) -> None:
    """A hat, crown, pair of glasses, scarf or bow tie about (x, y), for a head of radius `size`."""
    animal = replace(sample_animal(rng), accessory=ACCESSORIES[1 + int(rng.integers(len(ACCESSORIES) - 1))])
    build = BUILDS[animal.species]
    pen.canvas.save()
    pen.canvas.translate(x, y)
    pen.canvas.rotate(float(rng.uniform(-20, 20)))
    if animal.accessory in ("scarf", "bow tie"):
        pen.canvas.scale(size / build.head_r, size / build.head_r)
        pen.canvas.translate(0, -build.neck_y)
        draw_neck_accessory(pen, animal, build)
    else:
        pen.canvas.scale(size, size)
        pen.canvas.translate(0, -(build.eye_y if animal.accessory == "glasses" else build.hat_y))
        draw_face_accessory(pen, animal, build)
    pen.canvas.restore()
