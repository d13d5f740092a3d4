"""From a shape and an enlargement to the width and height of a picture that a model can make."""

from __future__ import annotations

from math import sqrt

from ..server.records import ModelFacts

SHAPES = {
    "Square 1:1": (1, 1),
    "Landscape 3:2": (3, 2),
    "Wide 16:9": (16, 9),
    "Portrait 2:3": (2, 3),
    "Tall 9:16": (9, 16),
}
"""Name → (width, height)."""
ENLARGEMENTS = {"As trained": 1, "4× the pixels": 2, "9× the pixels": 3, "16× the pixels": 4, "64× the pixels": 8}
"""Name → by how much the sides of a square grow over the model's native ones."""
DEFAULT_SHAPE, DEFAULT_ENLARGEMENT = "Square 1:1", "4× the pixels"
LARGEST_SIDE = 16_384


def preset_size(facts: ModelFacts, shape: str, enlargement: str, most_pixels: int) -> tuple[int, int]:
    """(width, height) in image pixels: about that many, of that shape, and no more than the server makes."""
    wide, high = SHAPES[shape]
    native = facts.width * facts.height / 4
    pixels = min(native * ENLARGEMENTS[enlargement] ** 2, most_pixels)
    width, height = sqrt(pixels * wide / high), sqrt(pixels * high / wide)
    nearest = (
        _multiple(round(width / facts.size_multiple), facts),
        _multiple(round(height / facts.size_multiple), facts),
    )
    if nearest[0] * nearest[1] <= most_pixels:
        return nearest
    return _multiple(int(width / facts.size_multiple), facts), _multiple(int(height / facts.size_multiple), facts)


def _multiple(times: int, facts: ModelFacts) -> int:
    return min(max(times, 1), LARGEST_SIDE // facts.size_multiple) * facts.size_multiple
