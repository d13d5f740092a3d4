"""Direct inference with the entropy of self-attention kept at that of the native size.

Paper: Jin et al. 2023 (arXiv 2306.08645), section 3.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..request.methods import Method

if TYPE_CHECKING:
    from PIL import Image

    from .steps.job import PictureJob


def make(job: PictureJob) -> Image.Image:
    """The picture."""
    from ..patching.attention import scaled_attention

    pipe, start = job.prepare_call()
    with scaled_attention(pipe):
        latents = job.denoise(pipe, **start)
    return job.picture(latents, pipe)


METHOD = Method(
    name="attention-scaling",
    summary="self-attention sharpened so that its entropy stays that of the native size",
    source="Jin et al. 2023 (arXiv 2306.08645), section 3.2",
    make=make,
    takes=frozenset({"image", "control"}),
)
