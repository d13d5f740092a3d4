"""Sizes and factors along two axes, and which picture sizes a model can make."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of a model."""

    native_height: int
    """Height of the latents it was trained on."""
    native_width: int
    levels: int
    """Resolutions of the denoiser; each halves the one above it.  A transformer with tokens of 2×2 latents has two."""
    pixel_factor: int
    """Image pixels to one latent pixel, along each axis."""

    @property
    def size_multiple(self) -> int:
        """Image sizes must be a multiple of this: VAE factor × the denoiser's reduction."""
        return self.pixel_factor * int(2 ** (self.levels - 1))

    @property
    def native_size(self) -> ImageSize:
        """The size of the pictures that it was trained on."""
        return ImageSize(self.native_width * self.pixel_factor, self.native_height * self.pixel_factor)

    @property
    def default_size(self) -> ImageSize:
        """The size of a picture for which none is asked: twice the native sides."""
        return ImageSize(2 * self.native_size.width, 2 * self.native_size.height)

    def nearest_size(self, size: ImageSize) -> ImageSize:
        """The size that the model can make which is nearest to this one."""
        return nearest_size(size, self.size_multiple)

    def grid_size(self, size: ImageSize) -> GridSize:
        """The size in latent pixels of a size in image pixels."""
        return GridSize(size.height // self.pixel_factor, size.width // self.pixel_factor)

    def check_size(self, height: int, width: int) -> None:
        """Raise `SizeError`, naming the two nearest good sizes, unless the denoiser reduces this size evenly."""
        check_size(height, width, self.size_multiple)


def check_size(height: int, width: int, multiple: int, reduction: str | None = "the U-Net's reduction") -> None:
    """Raise `SizeError`, naming the two nearest good ones, unless both sides (image pixels) are multiples.

    `reduction` says what, with the VAE, makes the multiple; None leaves that out.
    """
    problems: list[str] = []
    for name, value in (("height", height), ("width", width)):
        if value % multiple or value <= 0:
            below = max(value // multiple * multiple, multiple)
            multiples = f"a multiple of {multiple}" + (f" (VAE factor × {reduction})" if reduction else "")
            why = f"not {multiples}" if not problems else "neither"
            problems.append(f"{name} {value} is {why}; the nearest good ones are {below} and {below + multiple}")
    if problems:
        raise SizeError("; ".join(problems))
