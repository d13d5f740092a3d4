"""A picture of the native size, enlarged with Lanczos: one object, and no more detail than it had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..request.methods import Method
from ..request.passes import Decoding, Denoising, Pass, guides, size_of

if TYPE_CHECKING:
    from PIL import Image

    from .._util.sizes import ImageSize, ModelSizes
    from ..request.request import Request
    from .steps.job import PictureJob


def make(job: PictureJob) -> Image.Image:
    """The picture.  Where no good native size has the target's aspect ratio, it is stretched to it, not cropped."""
    from PIL import Image

    latents = job.denoise(**job.from_noise(job.native_size))
    return job.picture(latents).resize(job.size, Image.Resampling.LANCZOS)


def enlarge(job: PictureJob, source: Image.Image) -> Image.Image:
    """A picture of one's own, enlarged in the same way."""
    from PIL import Image

    return source.resize(job.size, Image.Resampling.LANCZOS)


def passes(request: Request, architecture: ModelSizes) -> list[Pass]:
    """What the picture is made of."""
    from .steps.stages import native_size

    native = native_size(architecture, size_of(request))
    return [Denoising(native, guides(request)), Decoding(native)]


def enlarging_passes(_request: Request, _architecture: ModelSizes, _source: ImageSize) -> list[Pass]:
    """Nothing of the model."""
    return []


METHOD = Method(
    name="upscale",
    summary="a picture of the native size, enlarged with Lanczos",
    title="Plain enlargement",
    plain="Draws a small picture and enlarges it. No new detail. The quickest.",
    source="the baseline of any picture editor",
    make=make,
    enlarge=enlarge,
    passes=passes,
    enlarging_passes=enlarging_passes,
)
