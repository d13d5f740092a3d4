"""Direct inference with the entropy of self-attention kept at that of the native size.

Paper: Jin et al. 2023 (arXiv 2306.08645), section 3.2.
"""

from __future__ import annotations

from PIL import Image

from ..generation.generate import denoise, picture
from ..patching.attention import scaled_attention
from .job import Job, opening


def make(job: Job) -> Image.Image:
    """The picture."""
    pipe, start = opening(job)
    with scaled_attention(pipe):
        latents = denoise(pipe, job.request, job.generator, job.progress, **start)
    return picture(pipe, latents)
