"""Direct inference: the pipeline as it is, at the size asked for."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ..generation.generate import denoise, picture
from .job import Job, opening
from .together import denoise_together, pictures


def make(job: Job) -> Image.Image:
    """The picture."""
    pipe, start = opening(job)
    return picture(pipe, denoise(pipe, job.request, job.generator, job.progress, **start))


def make_together(jobs: Sequence[Job]) -> list[Image.Image]:
    """Several pictures of one shape."""
    return pictures(jobs[0].pipe, denoise_together(jobs))
