"""Direct inference: the pipeline as it is, at the size asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..request.methods import Method
from ..request.passes import Pass, one_pass

if TYPE_CHECKING:
    from PIL import Image

    from .._util.sizes import ModelSizes
    from ..request.request import Request
    from .steps.job import PictureJob


def make(job: PictureJob) -> Image.Image:
    """The picture."""
    pipe, start = job.prepare_call()
    return job.picture(job.denoise(pipe, **start), pipe)


def make_batch(jobs: Sequence[PictureJob]) -> list[Image.Image]:
    """Several pictures of one batch key."""
    from .steps.batch import denoise_batch, pictures

    return pictures(jobs[0].pipe, denoise_batch(jobs))


def passes(request: Request, _architecture: ModelSizes) -> list[Pass]:
    """What the picture is made of."""
    return one_pass(request)


METHOD = Method(
    name="direct",
    summary="the pipeline as it is, at the size asked for",
    title="Direct",
    plain="The model without any help. Above its own size it often draws things several times. To compare with.",
    source="the baseline of all papers named here",
    make=make,
    make_batch=make_batch,
    passes=passes,
    takes=frozenset({"image", "control"}),
)
