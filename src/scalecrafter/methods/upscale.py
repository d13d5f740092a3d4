"""A picture of the native size, enlarged with Lanczos: one object, and no more detail than it had."""

from __future__ import annotations

from PIL import Image

from ..generation.generate import denoise, picture
from .job import Job, from_noise
from .stages import native_size


def make(job: Job) -> Image.Image:
    """The picture.  Where no good native size has the target's aspect ratio, it is stretched to it, not cropped."""
    size = native_size(job.architecture, job.size)
    latents = denoise(job.pipe, job.request, job.generator, job.progress, **from_noise(job, size))
    return picture(job.pipe, latents).resize(job.size, Image.Resampling.LANCZOS)
