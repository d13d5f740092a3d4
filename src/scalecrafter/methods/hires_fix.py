"""A picture of the native size, its latents enlarged, then image to image at the full size.

The practice of AUTOMATIC1111's web UI, with its upscaler "Latent", which is bilinear.  Nothing is re-dilated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..request.methods import Method
from ..request.passes import Decoding, Denoising, Pass, guides, size_of
from . import direct

if TYPE_CHECKING:
    from PIL import Image

    from .._util.sizes import ModelSizes
    from ..request.request import Request
    from .steps.job import PictureJob


def make(job: PictureJob) -> Image.Image:
    """The picture; at the native size there is nothing to enlarge, and it is direct inference."""
    if job.native_size == job.size:
        return direct.make(job)
    strength = job.request.strength_or_default
    small, large = job.progress_of_passes([1.0, strength])
    latents = job.denoise(progress=small, **job.from_noise(job.native_size))
    pipe = job.image_to_image()
    start = job.from_image(job.enlarged(latents, job.size), strength, job.size)
    return job.picture(job.denoise(pipe, progress=large, **start), pipe)


def passes(request: Request, architecture: ModelSizes) -> list[Pass]:
    """What the picture is made of."""
    from .steps.stages import native_size

    size, guided = size_of(request), guides(request)
    native = native_size(architecture, size)
    if native == size:
        return direct.passes(request, architecture)
    again = Denoising(size, guided, strength=request.strength_or_default)
    return [Denoising(native, guided), again, Decoding(size)]


def check(request: Request) -> None:
    """Refuse a strength that leaves no step."""
    request.check_steps_left()


METHOD = Method(
    name="hires-fix",
    summary="a picture of the native size, its latents enlarged, then image to image at the full size",
    title="Hires fix",
    plain="Draws a small picture, enlarges it and draws over it, as other programs do.",
    source="the practice of AUTOMATIC1111's web UI (upscaler Latent)",
    make=make,
    passes=passes,
    needs=frozenset({"image-to-image"}),
    takes=frozenset({"strength"}),
    check=check,
)
