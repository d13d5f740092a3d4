"""What can be in a critters picture: vocabulary, scenes, and how training scenes are drawn by lot.

Knows nothing of pixels (see `renderer`) or words in sentences (see `captions`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .species import BUILDS

SPECIES = ("cat", "dog", "fox", "bear", "rabbit", "mouse", "pig", "owl", "penguin", "frog")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "gray")
PATTERNS = ("plain", "spotted", "striped", "fluffy")
ACCESSORIES = ("none", "scarf", "hat", "bow tie", "glasses", "crown")
ACCESSORY_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
PLACES = ("snow", "forest", "beach", "desert", "meadow", "mountains", "city")
TIMES = ("day", "sunset", "night")
WORLDS = ("flat", "detailed")
"""Flat colours and one size of animals; or textures at every scale, and animals from far away to close-ups."""
SHIPPED_WORLD = "detailed"
"""The one that the shipped model and observer know."""


@dataclass(frozen=True)
class Placement:
    """One copy of a part, seen from where that part belongs.

    Eyes, ears and mouths move in head radii about the head's centre; heads and tails in animal heights.
    """

    side: int = 1
    """1 or -1: which of a pair it is; -1 mirrors a tail to the other side."""
    dx: float = 0.0
    dy: float = 0.0
    turn: float = 0.0
    """Degrees, about the head's centre (heads, eyes, ears, mouths) or the animal's feet (tails)."""
    scale: float = 1.0


PAIR = (Placement(-1), Placement(1))
LONE = (Placement(),)


@dataclass(frozen=True)
class Animal:
    """One animal: what a caption may say of it, then its pose and small continuous variations."""

    species: str
    colour: str
    pattern: str = "plain"
    accessory: str = "none"
    accessory_colour: str = "red"
    standing: bool = False
    facing: int = 1
    """1 or -1: the side it turns to; the tail shows at the other side."""
    turn: float = 0.0
    """How far the face is turned towards `facing`, 0 (front) to 1."""
    tilt: float = 0.0
    """Head tilt in degrees."""
    gaze: tuple[float, float] = (0.0, 0.0)
    """Where the pupils point, each in [-1, 1]."""
    hue_shift: float = 0.0
    """Degrees."""
    light_shift: float = 0.0
    head_scale: float = 1.0
    body_scale: float = 1.0
    eye_scale: float = 1.0
    seed: int = 0
    """Where spots and tufts fall."""
    malformed: tuple[tuple[str, tuple[Placement, ...]], ...] = ()
    """For animals that are wrong on purpose: a kind of part (head, eye, ear, mouth, tail) and the copies that are
    drawn instead of the usual ones."""

    def __post_init__(self) -> None:
        for value, allowed in (
            (self.species, SPECIES),
            (self.colour, COLOURS),
            (self.pattern, PATTERNS),
            (self.accessory, ACCESSORIES),
            (self.accessory_colour, ACCESSORY_COLOURS),
            (self.facing, (-1, 1)),
        ):
            if value not in allowed:
                raise ValueError(f"{value!r} is not one of {allowed}")

    def copies(self, kind: str) -> tuple[Placement, ...]:
        """The copies of a kind of part that are drawn: two eyes and ears and one of the rest, unless malformed."""
        return dict(self.malformed).get(kind, PAIR if kind in ("eye", "ear") else LONE)


@dataclass(frozen=True)
class PlacedAnimal:
    """An animal on the stage.

    The stage is the largest centred square of the picture; `x` (centre), `ground_y` (feet) and `height`
    (feet to ear tips) are fractions of its side. In a square picture the stage is the picture.
    """

    animal: Animal
    x: float
    ground_y: float
    height: float


@dataclass(frozen=True)
class Scene:
    """A whole picture: animals (drawn in order, so the nearest last) before a background."""

    animals: tuple[PlacedAnimal, ...]
    place: str
    time: str
    background_seed: int = 0
    world: str = SHIPPED_WORLD

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise ValueError(f"place {self.place!r} is not one of {PLACES}")
        if self.time not in TIMES:
            raise ValueError(f"time {self.time!r} is not one of {TIMES}")
        if self.world not in WORLDS:
            raise ValueError(f"world {self.world!r} is not one of {WORLDS}")


def _choice(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def sample_animal(rng: np.random.Generator) -> Animal:
    """An animal drawn by lot: half are plain, six in ten wear something."""
    colour = _choice(rng, COLOURS)
    return Animal(
        species=_choice(rng, SPECIES),
        colour=colour,
        pattern="plain" if rng.random() < 0.5 else _choice(rng, PATTERNS[1:]),
        accessory=_choice(rng, ACCESSORIES[1:]) if rng.random() < 0.6 else "none",
        accessory_colour=_choice(rng, tuple(c for c in ACCESSORY_COLOURS if c != colour)),
        standing=bool(rng.random() < 0.4),
        facing=1 if rng.random() < 0.5 else -1,
        turn=float(rng.uniform(0, 1)),
        tilt=float(rng.uniform(-7, 7)),
        gaze=(float(rng.uniform(-1, 1)), float(rng.uniform(-0.6, 0.6))),
        hue_shift=float(rng.uniform(-4, 4)),
        light_shift=float(rng.uniform(-0.03, 0.03)),
        head_scale=float(rng.uniform(0.97, 1.03)),
        body_scale=float(rng.uniform(0.94, 1.06)),
        eye_scale=float(rng.uniform(0.94, 1.08)),
        seed=int(rng.integers(2**31)),
    )


def settled(animal: Animal) -> Animal:
    """The animal as critters knows it: what no caption tells, and a small model would have to guess, hardly varies.

    A guess between two places ends in a smudge in both: half an eye, a tail at either side.
    """
    return replace(
        animal, facing=1, gaze=(0.0, 0.0), eye_scale=1.0, turn=0.3 + 0.4 * animal.turn, tilt=0.4 * animal.tilt
    )


def sample_scene(seed: int, world: str = SHIPPED_WORLD) -> Scene:
    """The training scene of this seed: exactly one animal; in the flat world wholly in the picture, 54-73 % high."""
    rng = np.random.default_rng(seed)
    animal = settled(sample_animal(rng))
    if world == "flat":
        x, ground_y, height = (float(rng.uniform(*span)) for span in ((0.43, 0.57), (0.88, 0.94), (0.54, 0.73)))
    else:
        animal, x, ground_y, height = framed(animal, rng)
    return Scene(
        animals=(PlacedAnimal(animal=animal, x=x, ground_y=ground_y, height=height),),
        place=_choice(rng, PLACES),
        time=TIMES[int(rng.choice(3, p=(0.5, 0.22, 0.28)))],
        background_seed=int(rng.integers(2**31)),
        world=world,
    )


FRAMINGS = ("far", "whole", "portrait", "close-up")
"""How large an animal is in its picture, in words."""
FRAMING_HEIGHTS = {"far": (0.27, 0.4), "whole": (0.45, 0.88), "portrait": (1.0, 1.35), "close-up": (1.5, 2.4)}
"""Heights of the animals of training scenes, of the picture's shorter side."""
FRAMING_SHARES = (0.2, 0.44, 0.18, 0.18)
FRAMING_BOUNDS = (0.425, 0.94, 1.425)
"""Heights between them."""


def framing_of(height: float) -> str:
    """The word for an animal of this height (of the picture's shorter side)."""
    return FRAMINGS[sum(height >= bound for bound in FRAMING_BOUNDS)]


def framed(animal: Animal, rng: np.random.Generator) -> tuple[Animal, float, float, float]:
    """The animal and its x, ground and height in a picture that shows it far away, whole, as a portrait or close up.

    What is cut off is the body: the face stays in the picture, and so does what the animal wears.
    """
    framing = FRAMINGS[int(rng.choice(4, p=FRAMING_SHARES))]
    low, high = FRAMING_HEIGHTS[framing]
    build, at_neck = BUILDS[animal.species], animal.accessory in ("scarf", "bow tie")
    if framing == "close-up" and (animal.accessory not in ("none", "glasses") or animal.species == "frog"):
        high = 1.55 if at_neck and animal.species == "frog" else 1.75  # a frog's eyes are at its sides
    height = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    if framing == "far":
        return animal, float(rng.uniform(0.36, 0.64)), float(rng.uniform(0.8, 0.94)), height
    if framing == "whole":
        return animal, float(rng.uniform(0.43, 0.57)), float(rng.uniform(max(height + 0.05, 0.88), 0.96)), height
    head = -build.head_y * height
    middle = 0.46 if framing == "portrait" else 0.5
    if animal.accessory in ("hat", "crown"):
        middle += 0.1
    elif at_neck:
        middle -= 0.08
    eyes = (
        (1.1 * build.eye_r - build.eye_y) * build.head_r * height
    )  # above the middle of the head; a frog's are far up
    middle = max(middle, eyes + 0.05)
    return animal, float(rng.uniform(0.46, 0.54)), middle + head + float(rng.uniform(-0.03, 0.03)), height
