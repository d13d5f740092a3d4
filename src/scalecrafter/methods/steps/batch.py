"""Several pictures of one batch key in one call of the pipeline, each as if it were made alone.

Each draws from its own generator on the CPU (diffusers takes a list of them, for ancestral schedulers too), so that a
picture does not depend on its place among the others.  What differs is rounding alone: a device may choose other
kernels for more rows.  Decoding is one at a time, which bounds its memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from .denoising import denoise, picture
from .job import PictureJob


def denoise_batch(jobs: Sequence[PictureJob]) -> Tensor:
    """Latents `(pictures, channels, height, width)` of jobs of one batch key (`request.batching`), begun from noise."""
    first = jobs[0]
    starts = [job.from_noise() for job in jobs]
    negatives = [job.request.negative for job in jobs]
    return denoise(
        first.pipe,
        first.request,
        [job.generator for job in jobs],
        first.progress,
        **starts[0]
        | {
            "latents": torch.cat([start["latents"] for start in starts]),
            "prompt": [job.request.prompt for job in jobs],
            "negative_prompt": negatives,
        },
    )


def pictures(pipe: object, latents: Tensor) -> list[Image.Image]:
    """The pictures of latents `(pictures, channels, height, width)`; errors as `denoising.picture`."""
    return [picture(pipe, one[None]) for one in latents]
