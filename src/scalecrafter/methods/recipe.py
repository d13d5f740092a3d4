"""ScaleCrafter: one pass with a recipe's re-dilation, dispersion, noise damping and FreeU.

Paper: He et al. 2024 (arXiv 2310.07702), section 3.
"""

from __future__ import annotations

from PIL import Image

from ..generation import denoise, picture
from ..patch import applied
from ..recipe import Recipe
from .job import Job, opening


def make(job: Job) -> Image.Image:
    """The picture with the request's recipe, or the automatic one."""
    return with_recipe(job, job.request.resolved_recipe())


def with_recipe(job: Job, recipe: Recipe | None) -> Image.Image:
    """The picture with this recipe; None is the automatic one."""
    pipe, start = opening(job)
    with applied(pipe, recipe=recipe, freeu=job.request.freeu):
        latents = denoise(pipe, job.request, job.generator, job.progress, **start)
        return picture(pipe, latents)
