"""Sizes and factors along two axes, and which picture sizes a model can make."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import SizeError

Factors = tuple[float, float]
"""Dilation factors (vertical, horizontal)."""


class ImageSize(NamedTuple):
    """A size in image pixels, in the order in which people say it."""

    width: int
    height: int


class GridSize(NamedTuple):
    """A size in latent pixels, in the order of a tensor's axes."""

    height: int
    width: int


def nearest_size(size: ImageSize, multiple: int) -> ImageSize:
    """The nearest size of which both sides are multiples."""
    return ImageSize(*(max(round(side / multiple), 1) * multiple for side in size))


def check_size(height: int, width: int, multiple: int) -> None:
    """Raise `SizeError`, naming the two nearest good ones, unless both sides (image pixels) are multiples."""
    problems: list[str] = []
    for name, value in (("height", height), ("width", width)):
        if value % multiple or value <= 0:
            below = max(value // multiple * multiple, multiple)
            why = f"not a multiple of {multiple} (VAE factor × the U-Net's reduction)" if not problems else "neither"
            problems.append(f"{name} {value} is {why}; the nearest good ones are {below} and {below + multiple}")
    if problems:
        raise SizeError("; ".join(problems))
