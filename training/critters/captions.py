"""Captions: a small grammar with several wordings of one scene.

Species and colour are always said, the place nearly always, pattern, accessory and time usually.  In the detailed
world the size is always said where it is not the usual one: far away, a portrait, a close-up.
"""

from __future__ import annotations

import re

import numpy as np

from .scene import (
    ACCESSORIES,
    ACCESSORY_COLOURS,
    COLOURS,
    PATTERNS,
    PLACES,
    SHIPPED_WORLD,
    SPECIES,
    TIMES,
    Animal,
    Scene,
    framing_of,
)

PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "snow": ("in the snow", "on a snowy field", "in a snowy landscape"),
    "forest": ("in the forest", "in a forest", "among the trees", "in the woods"),
    "beach": ("on the beach", "at the beach", "by the sea"),
    "desert": ("in the desert", "in a desert", "on a sand dune"),
    "meadow": ("in a meadow", "in the meadow", "on a flowery meadow", "among flowers"),
    "mountains": ("in the mountains", "in front of mountains"),
    "city": ("in the city", "in a city", "in town", "on the street"),
}
TIME_WORDS: dict[str, tuple[str, ...]] = {
    "day": ("by day", "in daylight", "on a sunny day"),
    "sunset": ("at sunset", "in the evening", "at dusk"),
    "night": ("at night", "by night", "under the stars", "in the moonlight"),
}
PATTERN_WORDS: dict[str, tuple[str, ...]] = {
    "spotted": ("spotted", "dotted"), "striped": ("striped",), "fluffy": ("fluffy", "furry"),
}  # fmt: skip
SPECIES_WORDS: dict[str, tuple[str, ...]] = {name: (name,) for name in SPECIES} | {
    "rabbit": ("rabbit", "rabbit", "bunny"), "cat": ("cat", "cat", "kitty"), "dog": ("dog", "dog", "puppy"),
    "pig": ("pig", "pig", "piglet"),
}  # fmt: skip
COLOUR_WORDS: dict[str, tuple[str, ...]] = {name: (name,) for name in COLOURS} | {"gray": ("gray", "grey")}
WORN = ("with", "wearing")
OPENINGS = ("", "", "", "", "a picture of ", "a drawing of ", "an illustration of ", "a cute picture of ")
FRAMING_OPENINGS: dict[str, tuple[str, ...]] = {"portrait": ("a portrait of ",), "close-up": ("a close-up of ",)}
FAR = ("far away", "in the distance")
SITTING = ("sitting", "sitting down")
STANDING = ("standing", "standing up")


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def _worn(animal: Animal, rng: np.random.Generator) -> str:
    item = f"{animal.accessory_colour} {animal.accessory}"
    return f" {_pick(rng, WORN)} {item if animal.accessory == 'glasses' else _article(item)}"


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One wording of a scene with one animal, in lower case."""
    animal = scene.animals[0].animal
    words = [_pick(rng, COLOUR_WORDS[animal.colour]), _pick(rng, SPECIES_WORDS[animal.species])]
    if animal.pattern != "plain" and rng.random() < 0.9:
        words.insert(int(rng.integers(2)) if rng.random() < 0.3 else 0, _pick(rng, PATTERN_WORDS[animal.pattern]))
    framing = framing_of(scene.animals[0].height) if scene.world == "detailed" else "whole"
    phrase = _pick(rng, FRAMING_OPENINGS.get(framing, OPENINGS)) + _article(" ".join(words))
    posture = ""
    if rng.random() < 0.15 and framing in ("far", "whole"):
        posture = f" {_pick(rng, STANDING if animal.standing else SITTING)}"
    worn = _worn(animal, rng) if animal.accessory != "none" and rng.random() < 0.92 else ""
    place = _pick(rng, PLACE_WORDS[scene.place]) if rng.random() < 0.9 else ""
    time = _pick(rng, TIME_WORDS[scene.time]) if rng.random() < (0.4 if scene.time == "day" else 0.9) else ""
    around = [part for part in (place, time) if part]
    if framing == "far":
        around.insert(0, _pick(rng, FAR))
    if rng.random() < 0.2 and around:
        return f"{phrase}{posture}{worn}, {', '.join(_bare(part) for part in around)}"
    return " ".join([f"{phrase}{posture}{worn}", *around])


def _bare(phrase: str) -> str:
    """A place or time without its preposition."""
    return phrase if phrase in FAR else phrase.removeprefix("in the ").removeprefix("at ")


def vocabulary(world: str = SHIPPED_WORLD) -> list[str]:
    """Every word that `caption` can emit for scenes of a world; of a hyphenated word, its parts."""
    phrases = [*SPECIES, *COLOURS, *PATTERNS, *ACCESSORIES, *ACCESSORY_COLOURS, *PLACES, *TIMES, *WORN, *OPENINGS]
    for table in (PLACE_WORDS, TIME_WORDS, PATTERN_WORDS, SPECIES_WORDS, COLOUR_WORDS):
        phrases += [phrase for options in table.values() for phrase in options]
    phrases += [*SITTING, *STANDING, "a", "an"]
    if world == "detailed":
        phrases += [*FAR, *(opening for options in FRAMING_OPENINGS.values() for opening in options)]
    return sorted({word for phrase in phrases for word in re.findall(r"[a-z]+", phrase)} - {"none", "plain"})
