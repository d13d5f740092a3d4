"""The sizes of a picture that is made in several passes."""

from __future__ import annotations

import itertools
from math import ceil, log2

from ..._util.sizes import ImageSize, ModelSizes

GROWTH = 2
"""How much longer a side gets from one stage to the next, at most."""


def native_size(architecture: ModelSizes, size: ImageSize) -> ImageSize:
    """The size at which to make the picture that will be enlarged to `size`.

    The good size that is nearest to the native area and, counted twice, to the target's aspect ratio, both in powers
    of two; the smaller one of two that are as near.  A target of no more than the native area is its own.
    """
    multiple, factor = architecture.size_multiple, architecture.pixel_factor
    area = architecture.native_width * architecture.native_height * factor**2
    width, height = size
    if width * height <= area:
        return size

    def distance(candidate: tuple[int, int]) -> tuple[float, int]:
        across, down = candidate
        aspect = abs(log2(across / down / (width / height)))
        return round(2 * aspect + abs(log2(across * down / area)), 9), across * down

    across, down = (range(multiple, min(side, 4 * area // multiple) + 1, multiple) for side in size)
    return ImageSize(*min(itertools.product(across, down), key=distance))


def stage_sizes(first: ImageSize, last: ImageSize, multiple: int) -> list[ImageSize]:
    """The sizes of the stages after `first`, up to and with `last`, none more than `GROWTH` times the side before it.

    As few as can be, and even: each side grows by about the same ratio from stage to stage.  All sides are multiples
    of `multiple`; rounded up, which keeps within `GROWTH`, since twice a multiple is one too.
    """
    ratios = [end / start for start, end in zip(first, last, strict=True)]
    count = ceil(log2(max(ratios)) / log2(GROWTH) - 1e-9)
    sizes = []
    for stage in range(1, count):
        ideal = [start * ratio ** (stage / count) for start, ratio in zip(first, ratios, strict=True)]
        width, height = (ceil(side / multiple - 1e-9) * multiple for side in ideal)
        sizes.append(ImageSize(width, height))
    return [*sizes, last] if count > 0 else []


def at_least_one_step(strength: float, steps: int) -> float:
    """A strength with which image to image runs one step or more."""
    return min(max(strength, (1 + 1e-9) / steps), 1.0)
