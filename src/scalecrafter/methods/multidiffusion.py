"""Windows of the native size that overlap, fused by averaging at each step (see `patching.windows`).

Paper: Bar-Tal et al. 2023 (arXiv 2302.08113), section 3.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from ..request.methods import Method
from ..request.passes import Pass, one_pass

if TYPE_CHECKING:
    from PIL import Image

    from .._util.sizes import ModelSizes
    from ..request.request import Request
    from .steps.job import PictureJob


def make(job: PictureJob) -> Image.Image:
    """The picture, with windows of the native size half a window apart."""
    native = (job.architecture.native_height, job.architecture.native_width)
    pipe, start = job.prepare_call()
    with _fused(pipe, native):
        conditioning = _size_conditioning(pipe, native, job.architecture.pixel_factor)
        latents = job.denoise(pipe, **start, **conditioning)
    return job.picture(latents, pipe)


def passes(request: Request, architecture: ModelSizes) -> list[Pass]:
    """What the picture is made of."""
    native = (architecture.native_height, architecture.native_width)
    return one_pass(request, around=partial(_fused, native=native))


def _fused(pipe: Any, native: tuple[int, int]) -> AbstractContextManager[Any]:
    from ..patching.transformer_windows import fused_token_windows
    from ..patching.windows import fused_windows
    from ..transformer.architecture import transformer_of

    transformer = transformer_of(pipe)
    if transformer is not None:
        return fused_token_windows(pipe, transformer)
    return fused_windows(pipe, native, (native[0] // 2, native[1] // 2))


def _size_conditioning(pipe: Any, native: tuple[int, int], pixel_factor: int) -> dict[str, Any]:
    """What a pipeline that tells its U-Net the picture's size (SDXL) tells it instead: that of one window."""
    if "target_size" not in inspect.signature(type(pipe).__call__).parameters:
        return {}
    size = (native[0] * pixel_factor, native[1] * pixel_factor)
    return {"original_size": size, "target_size": size}


METHOD = Method(
    name="multidiffusion",
    summary="overlapping windows of the native size, averaged at each step",
    title="MultiDiffusion",
    plain="Draws overlapping windows and joins them. For landscapes and patterns; one animal may become many.",
    source="Bar-Tal et al. 2023 (arXiv 2302.08113), section 3",
    make=make,
    passes=passes,
    takes=frozenset({"image"}),
)
