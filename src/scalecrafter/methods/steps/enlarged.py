"""The request's image, enlarged by its method."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from ...request.methods import METHODS
from ...request.source import open_source
from .enlarging import cut, keep_low_frequencies, padded, padded_size
from .job import PictureJob


def enlarged(job: PictureJob) -> tuple[Image.Image, tuple[str, ...]]:
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
