"""A picture of the native size, then stages: enlarge it, add noise again, finish it at that size, re-dilated.

What the picture shows is settled at the native size, where a model draws one thing once.  Each stage takes it for its
starting point, as SDEdit (Meng et al. 2022, arXiv 2108.01073, section 3) does a sketch, and draws what is finer;
re-dilation of the deep layers (He et al. 2024, arXiv 2310.07702, section 3.2) keeps it from repeating things.
The noise is added by the pipeline's image-to-image sibling with its own scheduler, so that the places in the
trajectory are those of the scheduler's full table, and a recipe's spans mean what they mean elsewhere.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from PIL import Image
from torch import Tensor

from ..generation.generate import denoise, picture
from ..models.tasks import image_to_image
from ..patching.apply import applied
from ..recipes.recipe import Recipe, Redilation
from ..request.request import DIRECT, Request
from ..unet.architecture import Architecture
from .job import Job, enlarged, from_noise, latent_size, progress_of_passes
from .layers import deepest_layers
from .stages import Cascade, Size, native_size, stage_sizes

_UNCHANGED = 1.1
"""Up to this ratio to the native side an axis is not dilated, as in the automatic recipe."""

UNGUIDED = 1.0
"""Guidance scale of a stage that the cascade itself re-dilates, unless said: the conditional prediction alone.  What is
in the picture is settled by then, and guidance multiplies the error that re-dilation makes in predicting noise (the
paper's reason for noise-damped guidance, section 3.4).  Measured in docs/quality.md; it saves half the evaluations."""


def make(job: Job) -> Image.Image:
    """The picture; at the native size there is one stage, direct inference."""
    settings = settings_of(job.request)
    first = native_size(job.architecture, job.size)
    sizes = stage_sizes(first, job.size, job.architecture.size_multiple)
    restarts = [max(settings.restart_of(stage), 1 / job.request.steps) for stage in range(len(sizes))]
    bars = progress_of_passes(job, [1.0, *restarts])

    latents = denoise(job.pipe, job.request, job.generator, bars[0], **from_noise(job, first))
    pipe = image_to_image(job.pipe) if sizes else job.pipe
    for stage, size in enumerate(sizes):
        start = {"image": _enlarged(job, pipe, latents, size, settings.upsample), "strength": restarts[stage]}
        recipe = stage_recipe(job.request, settings, job.architecture, size)
        request = _guided(job.request, settings.guidance_of(stage), recipe)
        with _redilated(pipe, recipe):
            latents = denoise(pipe, request, job.generator, bars[stage + 1], **start)
    return picture(pipe, latents)


def settings_of(request: Request) -> Cascade:
    """The request's own settings; a strength is another word for the restart of all stages."""
    if request.strength is not None:
        return Cascade(restart=(request.strength,))
    return request.cascade or Cascade()


def stage_recipe(request: Request, settings: Cascade, architecture: Architecture, size: Size) -> Recipe | None:
    """The recipe of a stage at `size` (width, height) in image pixels; None leaves it undilated."""
    if request.recipe == DIRECT:
        return None
    return request.resolved_recipe() or deep_recipe(architecture, size, settings.levels, settings.until)


def deep_recipe(architecture: Architecture, size: Size, levels: int | None, until: float) -> Recipe | None:
    """The deepest levels (None: all but the finest) and the middle dilated by the ratio of the sizes, per axis.

    None where that is 1 on both.
    """
    levels = architecture.levels - 1 if levels is None else levels
    height, width = latent_size(architecture, size)
    ratios = height / architecture.native_height, width / architecture.native_width
    if max(ratios) <= _UNCHANGED:
        return None
    vertical, horizontal = (round(ratio, 3) if ratio > _UNCHANGED else 1.0 for ratio in ratios)
    layers = dict.fromkeys(deepest_layers(architecture, levels), (vertical, horizontal))
    return Recipe(redilation=Redilation(until=until, layers=layers))


def _enlarged(job: Job, pipe: Any, latents: Tensor, size: Size, upsample: str) -> Image.Image | Tensor:
    """What a stage starts from."""
    if upsample == "latents":
        return enlarged(latents, latent_size(job.architecture, size))
    return picture(pipe, latents).resize(size, Image.Resampling.LANCZOS)


def _redilated(pipe: Any, recipe: Recipe | None) -> AbstractContextManager[Any]:
    return nullcontext() if recipe is None else applied(pipe, recipe=recipe)


def _guided(request: Request, guidance: float | None, recipe: Recipe | None) -> Request:
    if guidance is None and recipe is not None and request.recipe is None:
        guidance = UNGUIDED
    return request if guidance is None else request.model_copy(update={"guidance": guidance})
