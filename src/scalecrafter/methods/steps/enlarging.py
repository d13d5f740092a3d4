"""Enlarging a picture of any size: padding to the model's grid, the method, and the picture's low frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..._util.sizes import ImageSize, ModelSizes
from ...request.enlarge_source import open_source
from ...request.methods import METHODS
from ...request.passes import Pass, size_of
from .stages import at_least_one_step

if TYPE_CHECKING:
    from ...request.request import Request
    from .job import PictureJob

_ROUNDS = 4
"""Of correcting the low frequencies: what is added for one of them changes its neighbours a little."""


def enlarge_image(job: PictureJob) -> tuple[Image.Image, tuple[str, ...]]:
    """The request's image, enlarged by its method, and what was done to the image before that."""
    assert job.request.enlarge is not None
    source, method = open_source(str(job.request.image)), METHODS[job.request.method]
    if method.enlarge is not None:
        picture = method.enlarge(job, source.colours)
    else:
        grid = padded_size(job.size, job.architecture.size_multiple)
        start = padded(source.colours.resize(job.size, Image.Resampling.LANCZOS), grid)
        request = job.request.model_copy(update={"width": grid.width, "height": grid.height})
        picture = cut(method.make(replace(job, request=request, start=start)), job.size)
    return source.dressed(keep_low_frequencies(picture, source.colours, job.request.enlarge.creativity)), source.notes


def enlarging_passes(request: Request, architecture: ModelSizes, source: ImageSize) -> Sequence[Pass] | None:
    """What `enlarge_image` does with a picture of this size, for a settled request; None: its method does not tell."""
    assert request.enlarge is not None
    method = METHODS[request.method]
    if method.enlarge is not None:
        return None if method.enlarging_passes is None else method.enlarging_passes(request, architecture, source)
    if method.passes is None:
        return None
    grid = padded_size(size_of(request), architecture.size_multiple)
    strength = at_least_one_step(request.enlarge.creativity, request.steps)
    begun = request.changed(width=grid.width, height=grid.height, enlarge=None, strength=strength)
    return method.passes(begun, architecture)


def padded_size(size: ImageSize, multiple: int) -> ImageSize:
    """The next size up of which both sides are multiples."""
    return ImageSize(*(ceil(side / multiple) * multiple for side in size))


def padded(picture: Image.Image, size: ImageSize) -> Image.Image:
    """A picture continued by its mirror image, to the right and below."""
    right, below = size.width - picture.width, size.height - picture.height
    pixels = np.pad(np.asarray(picture), ((0, below), (0, right), (0, 0)), mode="symmetric")
    return Image.fromarray(pixels)


def cut(picture: Image.Image, size: ImageSize) -> Image.Image:
    """A padded picture without its padding."""
    return picture.crop((0, 0, size.width, size.height))


def keep_low_frequencies(picture: Image.Image, source: Image.Image, creativity: float) -> Image.Image:
    """The picture with the low frequencies of the one that it was made from.

    With creativity 0 they are all that the source has: reduced to its size, the picture is the source.  The grid on
    which both are the same has `1 - creativity` times as many cells along each axis, and always one.

    Args:
        picture: 8-bit RGB.
        source: 8-bit RGB of the same shape, and smaller.
        creativity: 0 to 1.
    """
    cells = ImageSize(*(max(round(side * (1 - creativity)), 1) for side in source.size))
    wanted = _reduced(_channels(source), cells)
    channels = _channels(picture)
    for _ in range(_ROUNDS):
        missing = [goal - now for goal, now in zip(wanted, _reduced(channels, cells), strict=True)]
        added = [_resized(one, picture.size, Image.Resampling.BICUBIC) for one in missing]
        channels = [np.clip(channel + change, 0.0, 255.0) for channel, change in zip(channels, added, strict=True)]
    return Image.fromarray(np.rint(np.stack(channels, axis=-1)).astype(np.uint8))


def _channels(picture: Image.Image) -> list[NDArray[np.float32]]:
    return list(np.asarray(picture.convert("RGB"), np.float32).transpose(2, 0, 1))


def _reduced(channels: list[NDArray[np.float32]], size: tuple[int, int]) -> list[NDArray[np.float32]]:
    return [_resized(channel, size, Image.Resampling.BOX) for channel in channels]


def _resized(channel: NDArray[np.float32], size: tuple[int, int], filter: Image.Resampling) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(channel).resize(size, filter), np.float32)
