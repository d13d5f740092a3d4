"""A picture of the native size, its latents enlarged, then image to image at the full size.

The practice of AUTOMATIC1111's web UI, with its upscaler "Latent", which is bilinear.  Nothing is re-dilated.
"""

from __future__ import annotations

from PIL import Image

from ..generation.generate import denoise, picture
from ..models.tasks import image_to_image
from . import direct
from .job import Job, enlarged, from_noise, progress_of_passes
from .stages import native_size


def make(job: Job) -> Image.Image:
    """The picture; at the native size there is nothing to enlarge, and it is direct inference."""
    request, size = job.request, native_size(job.architecture, job.size)
    if size == job.size:
        return direct.make(job)
    strength = request.strength_or_default
    small, large = progress_of_passes(job, [1.0, strength])
    latents = denoise(job.pipe, request, job.generator, small, **from_noise(job, size))
    pipe = image_to_image(job.pipe)
    start = {"image": enlarged(latents, job.latent_size), "strength": strength}
    latents = denoise(pipe, request, job.generator, large, **start)
    return picture(pipe, latents)
