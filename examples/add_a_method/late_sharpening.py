"""A method of another package: a picture of the native size, enlarged, and sharpened afterwards.

Once this package is installed, `scalecrafter generate "a red fox" --method late-sharpening --set amount=1.5` works, and
so do `batch`, `eval`, the server and the page.  Import torch inside of `make` only: help texts need this file too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from scalecrafter.methods import Method, MethodSettings

if TYPE_CHECKING:
    from PIL import Image

    from scalecrafter.methods.steps.job import PictureJob


class LateSharpening(MethodSettings):
    """The settings; in a request they stand under the method's name."""

    amount: float = Field(default=1.0, ge=0.0, le=5.0, description="how much is sharpened")


def make(job: PictureJob) -> Image.Image:
    """The picture."""
    from PIL import Image, ImageFilter

    latents = job.denoise(**job.from_noise(job.native_size))
    large = job.picture(latents).resize(job.size, Image.Resampling.LANCZOS)
    return large.filter(ImageFilter.UnsharpMask(percent=int(100 * job.settings(LateSharpening).amount)))


METHOD = Method(
    name="late-sharpening",
    summary="a picture of the native size, enlarged with Lanczos and sharpened",
    source="an example",
    make=make,
    settings=LateSharpening,
)
