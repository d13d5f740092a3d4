"""The prompts that `scalecrafter eval` ships: captions of held-out scenes that leave nothing open.

`python -m training.critters.evaluation_prompts` writes them anew.  Knows nothing of models.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np

from .captions import COLOUR_WORDS, PLACE_WORDS, SPECIES_WORDS, caption
from .data import HELD_OUT_SEED
from .scene import ACCESSORIES, COLOURS, SHIPPED_WORLD, SPECIES, Animal, sample_scene

COUNT = 512
TARGET = Path("src/scalecrafter/evaluation/prompts/critters.jsonl")


def prompts(number: int = COUNT, world: str = SHIPPED_WORLD) -> Iterator[dict[str, str | int]]:
    """`number` prompts with what they promise and the seed of their scene.

    Species and colours take turns so that each run of a hundred has all hundred pairs; accessories, places and times
    fall by lot.  A caption is taken only if it names all three attributes or truly has no accessory.
    """
    seeds = count(HELD_OUT_SEED)
    for index in range(number):
        species = SPECIES[index % len(SPECIES)]
        colour = COLOURS[(index + index // len(SPECIES)) % len(COLOURS)]
        for seed in seeds:
            scene = sample_scene(seed, world)
            animal = scene.animals[0].animal
            if (animal.species, animal.colour) != (species, colour):
                continue
            text = caption(scene, np.random.default_rng((seed, 2)))
            if says(text, animal) and any(words in text for words in PLACE_WORDS[scene.place]):
                yield {
                    "prompt": text, "species": species, "colour": colour, "accessory": animal.accessory, "scene": seed
                }  # fmt: skip
                break


def says(text: str, animal: Animal) -> bool:
    """Whether a caption says all that an animal is: its species, its colour, and what it wears, with that colour."""
    words = text.replace(",", "").split()
    worn = [accessory for accessory in ACCESSORIES[1:] if f" {accessory}" in text]
    wears = [] if animal.accessory == "none" else [animal.accessory]
    return (
        any(word in words for word in SPECIES_WORDS[animal.species])
        and any(word in words for word in COLOUR_WORDS[animal.colour])
        and worn == wears
        and (not wears or f"{animal.accessory_colour} {animal.accessory}" in text)
    )


def main() -> None:
    """Write the prompts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("-o", "--output", type=Path, default=TARGET)
    options = parser.parse_args()
    lines = [json.dumps(prompt) for prompt in prompts(options.count)]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("\n".join(lines) + "\n")
    print(f"wrote {len(lines)} prompts to {options.output}")


if __name__ == "__main__":
    main()
