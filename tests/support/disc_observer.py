"""A tiny honest observer for tests: it counts discs on black, their white spots, and names the colour of the largest.

`draw` makes the pictures that it understands, so what is in them is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from scalecrafter.evaluation.inspection import Inspector

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


@dataclass(frozen=True)
class Seen:
    animals: int
    parts: Mapping[str, int]
    colour: str
    features: NDArray[np.float32]
    species: str = "disc"
    accessory: str = "none"

    @property
    def one_object(self) -> bool:
        return self.animals == 1

    @property
    def well_formed(self) -> bool:
        return self.one_object and self.parts["eye"] == 2


class DiscObserver:
    """Counts connected bright regions, and connected white ones."""

    def observe(self, pictures: Sequence[Any]) -> list[Seen]:
        return [self._seen(np.asarray(picture, np.float32)) for picture in pictures]

    def _seen(self, pixels: NDArray[np.float32]) -> Seen:
        bright = pixels.max(axis=-1) > 100
        colour = list(COLOURS)[int(pixels[bright].mean(axis=0).argmax())] if bright.any() else "red"
        features = np.concatenate([pixels.mean(axis=(0, 1)), pixels.std(axis=(0, 1))]).astype(np.float32) / 255
        return Seen(
            animals=int(ndimage.label(bright)[1]),
            parts={"eye": int(ndimage.label(pixels.min(axis=-1) > 200)[1])},
            colour=colour,
            features=features,
        )


def disc_inspector() -> Inspector:
    return Inspector("critters", DiscObserver())


def draw(discs: int, colour: str = "red", eyes: int = 2, side: int = 96) -> Image.Image:
    """A row of discs, each with white eyes, on black."""
    picture = Image.new("RGB", (side * max(discs, 1), side))
    pen = ImageDraw.Draw(picture)
    for index in range(discs):
        left = index * side
        pen.ellipse((left + 8, 8, left + side - 8, side - 8), fill=COLOURS[colour])
        for eye in range(eyes):
            pen.ellipse((left + 20 + 16 * eye, 36, left + 28 + 16 * eye, 44), fill="white")
    return picture


def uncounted(_done: int, _total: int) -> None:
    """Where nobody wants to know how it gets on."""
