"""Direct inference: the pipeline as it is, at the size asked for."""

from __future__ import annotations

from PIL import Image

from ..generation import denoise, picture
from .job import Job, opening


def make(job: Job) -> Image.Image:
    """The picture."""
    pipe, start = opening(job)
    return picture(pipe, denoise(pipe, job.request, job.generator, job.progress, **start))
