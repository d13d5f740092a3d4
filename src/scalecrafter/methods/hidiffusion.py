"""HiDiffusion: deep features at a coarser grid for the first part of the trajectory, and attention in shifting windows.

Paper: Zhang et al. 2024 (arXiv 2311.17528), sections 3.3 and 3.4.  In the same pipelines, with the same
shifts, it makes the same latents as the authors' package (PyPI hidiffusion 0.1.10) to the bit (SD at twice the side;
benchmarks/hidiffusion_package.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..request.methods import Method, MethodSettings
from ..request.passes import Decoding, Denoising, Pass, encodings, guides, size_of

if TYPE_CHECKING:
    from PIL import Image

    from ..patching.coarse_features import Coarse
    from ..request.request import Request
    from ..unet.architecture import Architecture
    from .steps.job import PictureJob


class HiDiffusionSettings(MethodSettings):
    """The settings of the method hidiffusion."""

    windows: bool = Field(default=True, description="self-attention of the finest level in four windows that shift")
    coarse: bool = Field(default=True, description="deep features at half the side, for the first part of the steps")


def make(job: PictureJob) -> Image.Image:
    """The picture."""
    from ..unet.architecture import Architecture

    assert isinstance(job.architecture, Architecture)
    pipe, start = job.prepare_call()
    with hidiffusion(pipe, job.request, job.architecture):
        latents = job.denoise(pipe, **start)
    return job.picture(latents, pipe)


@contextmanager
def hidiffusion(pipe: Any, request: Request, architecture: Architecture) -> Iterator[Any]:
    """For the length of a `with` block, what the request asks for is on the pipeline's U-Net."""
    from ..patching.coarse_features import coarse_features
    from ..patching.sparse_attention import Sparse, finest_attention, sparse_attention
    from ..unet.architecture import find_unet
    from .steps.coarse import is_native

    settings, size = request.settings_of(HiDiffusionSettings), size_of(request)
    with ExitStack() as stack:
        if settings.windows and not is_native(architecture, size):
            finest = finest_attention(find_unet(pipe))
            windows = {finest: Sparse("windows", shifts=True)}
            stack.enter_context(sparse_attention(pipe, windows, seed=request.seed or 0))
        places = _places(request, architecture)
        if places:
            stack.enter_context(coarse_features(pipe, places))
        yield pipe


def passes(request: Request, architecture: Architecture) -> list[Pass]:
    """What the picture is made of: a pass for each part of the trajectory in which other features are coarser."""
    size, places = size_of(request), _places(request, architecture)
    ends = sorted({0.0, 1.0, *(end for place in places for end in (place.begin, place.until))})

    def around(pipe: Any) -> Any:
        return hidiffusion(pipe, request, architecture)

    strength = 1.0 if request.image is None else request.strength_or_default
    found: list[Pass] = [
        Denoising(size, guides(request), strength=strength, span=span, around=around)
        for span in itertools.pairwise(ends)
    ]
    return [*encodings(request), *found, Decoding(size)]


def _places(request: Request, architecture: Architecture) -> list[Coarse]:
    """Where features become coarser."""
    from .steps.coarse import published_places

    settings = request.settings_of(HiDiffusionSettings)
    return published_places(architecture, size_of(request)) if settings.coarse else []


METHOD = Method(
    name="hidiffusion",
    summary="deep features at a coarser grid at first, and self-attention in shifting windows",
    title="HiDiffusion",
    plain="The model draws at a coarser grid first, so a thing is drawn once; quick at large sizes.",
    source="Zhang et al. 2024 (arXiv 2311.17528), sections 3.3 and 3.4",
    make=make,
    passes=passes,
    takes=frozenset({"image"}),
    models=frozenset({"unet"}),
    settings=HiDiffusionSettings,
)
