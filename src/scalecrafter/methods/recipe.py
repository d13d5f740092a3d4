"""ScaleCrafter: one pass with a recipe's re-dilation, dispersion, noise damping and FreeU.

Paper: He et al. 2024 (arXiv 2310.07702), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ..generation.generate import denoise, picture
from ..patching.apply import applied
from ..recipes.recipe import Recipe
from .job import Job, opening
from .together import denoise_together, pictures


def make(job: Job) -> Image.Image:
    """The picture with the request's recipe, or the automatic one."""
    return with_recipe(job, job.request.resolved_recipe())


def make_together(jobs: Sequence[Job]) -> list[Image.Image]:
    """Several pictures of one shape, and so of one recipe."""
    return together_with_recipe(jobs, jobs[0].request.resolved_recipe())


def with_recipe(job: Job, recipe: Recipe | None) -> Image.Image:
    """The picture with this recipe; None is the automatic one."""
    pipe, start = opening(job)
    with applied(pipe, recipe=recipe, freeu=job.request.freeu):
        latents = denoise(pipe, job.request, job.generator, job.progress, **start)
        return picture(pipe, latents)


def together_with_recipe(jobs: Sequence[Job], recipe: Recipe | None) -> list[Image.Image]:
    """Several pictures of one shape with this recipe; None is the automatic one."""
    pipe = jobs[0].pipe
    with applied(pipe, recipe=recipe, freeu=jobs[0].request.freeu):
        return pictures(pipe, denoise_together(jobs))
