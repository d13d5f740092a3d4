"""The quickest way to a good large picture: a cascade of few steps, each of them cheaper.

The levers, each a setting: fewer steps (of a higher order, as a choice) at the native size, guided only in the first
part (Kynkäänniemi et al. 2024, arXiv 2404.07724); one unguided, re-dilated step at each larger size, as in the cascade;
there, keys and values pooled (ToDo, arXiv 2402.13573) or windows and phases at the two finest levels of attention;
and, as a choice, pooled keys in the VAE's attention.  On a transformer it is fewer steps and one step a stage, with the
automatic recipe: the other levers are for U-Nets.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from .._util.sizes import ImageSize
from .._util.text import unknown
from ..request.methods import Method, MethodSettings
from ..request.passes import Decoding, Denoising, Encoding, Pass, guides, size_of
from ..request.schedulers import SCHEDULERS

if TYPE_CHECKING:
    from PIL import Image

    from ..recipes.recipe import Recipe
    from ..request.request import Request
    from ..transformer.architecture import TransformerArchitecture
    from ..unet.architecture import Architecture
    from .steps.job import PictureJob

    Model = Architecture | TransformerArchitecture
else:
    Model = Any

UNGUIDED = 1.0
FOR_UNETS = ("guided_until", "attention", "vae_attention")
"""Settings that have no effect with a transformer."""


class FastSettings(MethodSettings):
    """The levers of the method fast."""

    most_steps: int = Field(default=14, ge=1, description="steps at the native size, where the request has more")
    scheduler: str | None = Field(default=None, description="where the request names none; null is the model's own")
    guided_until: float = Field(default=0.7, gt=0.0, le=1.0, description="where guidance ends at the native size")
    restart: float = Field(default=0.04, gt=0.0, le=1.0, description="fraction of the trajectory that a stage runs")
    stage_guidance: float = Field(default=UNGUIDED, ge=0.0, le=100.0, description="scale of the stages; 1: unguided")
    attention: Literal["full", "pooled", "windows"] = Field(
        default="pooled",
        description="of the stages: keys and values pooled 2x2, or windows at the finest level and phases at the next",
    )
    vae_attention: Literal["full", "pooled"] = Field(
        default="full", description="pooled: keys and values pooled to the native grid, approximate"
    )

    @field_validator("scheduler")
    @classmethod
    def _known_scheduler(cls, value: str | None) -> str | None:
        if value is None or value in SCHEDULERS:
            return value
        raise ValueError(unknown("scheduler", value, SCHEDULERS))


def make(job: PictureJob) -> Image.Image:
    """The picture; at the native size it is direct inference."""
    sizes = job.stage_sizes()
    if not sizes:
        return job.picture(job.denoise(**job.from_noise()))
    settings = fast_settings(job.request, job.architecture)
    with _scheduler(job, settings):
        first = replace(job, request=_first(job.request, settings))
        restart = _restart(job.request, settings.restart)
        bars = job.progress_of_steps([first.table_length(), *[job.table_length(restart)] * len(sizes)])
        guided = _guided_steps(first.table_length(), settings) if guides(job.request) else None
        latents = first.denoise(progress=bars[0], guided_steps=guided, **first.from_noise(job.native_size))
        pipe, size = job.image_to_image(), job.native_size
        for bar, larger in zip(bars[1:], sizes, strict=True):
            picture = _decoded(job, latents, pipe, size, settings)
            latents = _refined(job, pipe, picture, larger, restart, settings, bar)
            size = larger
        return _decoded(job, latents, pipe, size, settings)


def enlarge(job: PictureJob, source: Image.Image) -> Image.Image:
    """A picture of any size enlarged in stages; its creativity is the restart, unless the settings have one."""
    from .steps.enlarging import cut, padded_size
    from .steps.stages import stage_sizes

    request, settings, picture = job.request, fast_settings(job.request, job.architecture), source
    assert request.enlarge is not None
    sizes = stage_sizes(ImageSize(*source.size), job.size, multiple=1)
    restart = _restart(request, settings.restart if request.settings is not None else request.enlarge.creativity)
    with _scheduler(job, settings):
        pipe = job.image_to_image()
        bars = job.progress_of_steps([job.table_length(restart)] * len(sizes))
        for bar, size in zip(bars, sizes, strict=True):
            grid = padded_size(size, job.architecture.size_multiple)
            latents = _refined(job, pipe, picture, size, restart, settings, bar)
            picture = cut(_decoded(job, latents, pipe, grid, settings), size)
    return picture


def passes(request: Request, architecture: Model) -> list[Pass]:
    """What the picture is made of."""
    from .steps.stages import native_size, stage_sizes

    settings, last = fast_settings(request, architecture), size_of(request)
    before = native_size(architecture, last)
    sizes = stage_sizes(before, last, architecture.size_multiple)
    if not sizes:
        return [Denoising(last, guides(request)), Decoding(last)]
    steps, until = _first(request, settings).steps, settings.guided_until if guides(request) else 0.0
    found: list[Pass] = [
        Denoising(before, guided, span=span, steps=steps)
        for guided, span in ((True, (0.0, until)), (False, (until, 1.0)))
        if span[0] < span[1]
    ]
    for size in sizes:
        found += [Decoding(before, _vae(architecture, before, settings))]
        found += [Encoding(size, _vae(architecture, size, settings))]
        recipe = _recipe(architecture, size)
        around = None if settings.attention == "full" else functools.partial(_attention, settings, architecture)
        restart = _restart(request, settings.restart)
        guided = guides(request, settings.stage_guidance)
        found.append(Denoising(size, guided, recipe, strength=restart, around=around))
        before = size
    return [*found, Decoding(last, _vae(architecture, last, settings))]


def fast_settings(request: Request, architecture: Model) -> FastSettings:
    """The request's levers, or the defaults; `RecipeError` for one that this model has none of."""
    settings = request.settings_of(FastSettings)
    if not _is_transformer(architecture):
        return settings
    for name in FOR_UNETS:
        if getattr(settings, name) != FastSettings.model_fields[name].default:
            from ..errors import RecipeError

            raise RecipeError(f"{name} has no effect with a transformer: leave it out")
    return settings.model_copy(update={"guided_until": 1.0, "attention": "full"})


def _is_transformer(architecture: Model) -> bool:
    from ..transformer.architecture import TransformerArchitecture

    return isinstance(architecture, TransformerArchitecture)


def _first(request: Request, settings: FastSettings) -> Request:
    """The request of the native picture."""
    return request.changed(steps=min(request.steps, settings.most_steps))


def _guided_steps(length: int, settings: FastSettings) -> int | None:
    steps = ceil(length * settings.guided_until - 1e-9)
    return None if steps >= length else steps


def _restart(request: Request, asked: float) -> float:
    from .steps.stages import at_least_one_step

    return at_least_one_step(asked, request.steps)


@contextmanager
def _scheduler(job: PictureJob, settings: FastSettings) -> Iterator[None]:
    from ..models.schedulers import using_scheduler

    with using_scheduler(job.pipe, None if job.request.scheduler else settings.scheduler, job.request.seed):
        yield


def _refined(
    job: PictureJob, pipe: Any, picture: Image.Image, size: ImageSize, restart: float, settings: FastSettings, bar: Any
) -> Any:
    """Latents of a picture that was enlarged to `size` and finished there."""
    from PIL import Image

    from ..patching.apply import applied
    from .steps.enlarging import padded, padded_size

    grid = padded_size(size, job.architecture.size_multiple)
    start = padded(picture.resize(size, Image.Resampling.LANCZOS), grid)
    recipe = _recipe(job.architecture, grid, pipe.scheduler)
    with ExitStack() as stack:
        stack.enter_context(_attention(settings, job.architecture, pipe))
        if recipe is not None:
            stack.enter_context(applied(pipe, recipe=recipe))
        around = _vae(job.architecture, grid, settings)
        if around is not None:
            stack.enter_context(around(pipe))
        begun = job.from_image(start, restart, grid) | _stage_guidance(job.request, settings, pipe)
        return job.denoise(pipe, progress=bar, **begun)


def _stage_guidance(request: Request, settings: FastSettings, pipe: Any) -> dict[str, Any]:
    """What a stage's call is given of guidance; a model that has learnt its own keeps it."""
    from ..models.denoisers import unguided

    if settings.stage_guidance > UNGUIDED:
        return {"guidance_scale": settings.stage_guidance}
    return {"guidance_scale": unguided(pipe, request.guidance), "negative_prompt": ""}


def _decoded(job: PictureJob, latents: Any, pipe: Any, size: ImageSize, settings: FastSettings) -> Image.Image:
    around = _vae(job.architecture, size, settings)
    with ExitStack() as stack:
        if around is not None:
            stack.enter_context(around(pipe))
        return job.picture(latents, pipe)


def _recipe(architecture: Any, size: ImageSize, scheduler: Any = None) -> Recipe | None:
    if _is_transformer(architecture):
        from ..patching.schedule import shifts_by_size
        from ..recipes.transformers import automatic_transformer_recipe

        grid = architecture.grid(size.height, size.width)
        return automatic_transformer_recipe(architecture, grid, shifts_by_size(scheduler))
    from ..recipes.automatic import deep_recipe

    return deep_recipe(architecture, architecture.grid_size(size), None, 1.0)


@contextmanager
def _attention(settings: FastSettings, architecture: Any, pipe: Any) -> Iterator[Any]:
    """The two finest levels of self-attention see fewer tokens."""
    from ..patching.sparse_attention import Sparse, finest_attention, sparse_attention
    from ..unet.architecture import find_unet

    if settings.attention == "full":
        yield pipe
        return
    finest = finest_attention(find_unet(pipe))
    side = min(architecture.native_height, architecture.native_width)
    levels = range(finest, min(finest + 2, architecture.levels))
    if settings.attention == "pooled":
        sparse = {level: Sparse("pooled") for level in levels}
    else:
        sparse = {
            level: Sparse("windows" if level == finest else "phases", side=max(side >> level, 1)) for level in levels
        }
    with sparse_attention(pipe, sparse):
        yield pipe


def _vae(architecture: Any, size: ImageSize, settings: FastSettings) -> Any:
    """What is on the VAE at a size; None for nothing."""
    if settings.vae_attention == "full":
        return None
    grid = architecture.grid_size(size)
    factor = round(max(grid.height / architecture.native_height, grid.width / architecture.native_width))
    return None if factor < 2 else _pooling(factor)


@functools.cache
def _pooling(factor: int) -> Any:
    def around(pipe: Any) -> Any:
        from ..vae.pooled_attention import pooled_attention

        return pooled_attention(pipe.vae, factor)

    return around


METHOD = Method(
    name="fast",
    summary="the quickest good large picture: a cascade of few, cheaper steps",
    plain="A small picture first, then few and cheap steps to the large one. The quickest of the good ones.",
    source="the cascade, with a guidance interval (arXiv 2404.07724) and pooled keys (arXiv 2402.13573)",
    needs=frozenset({"image-to-image"}),
    make=make,
    enlarge=enlarge,
    passes=passes,
    settings=FastSettings,
)
