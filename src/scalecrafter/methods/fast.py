"""The quickest way to a good large picture: a cascade of few steps, each of them cheaper.

The levers, each a setting: fewer steps (of a higher order, as a choice) at the native size, guided only in the first
part (Kynkäänniemi et al. 2024, arXiv 2404.07724); one unguided, re-dilated step at each larger size, as in the cascade;
there, keys and values pooled (ToDo, arXiv 2402.13573) or windows and phases at the two finest levels of attention.
As choices, deep features at the native grid (HiDiffusion, arXiv 2311.17528) in the place of re-dilation, and pooled
keys in the VAE's attention.  With a distilled LoRA fewer steps still, unguided.  On a transformer it is fewer steps and
one step a stage, with the automatic recipe: the rest is for U-Nets.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

from .._util.sizes import ImageSize
from ..request.methods import Method
from ..request.passes import Decoding, Denoising, Encoding, Pass, guides, size_of
from .fast_settings import RESTART, UNGUIDED, FastSettings, fast_settings, is_transformer
from .steps.distilled import distilled

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

_LONGEST_TABLE = 50
"""Steps of a trajectory that LCM's scheduler has at most."""


def make(job: PictureJob) -> Image.Image:
    """The picture; at the native size it is direct inference."""
    sizes, settings = job.stage_sizes(), fast_settings(job.request, job.architecture)
    if not sizes and settings.lora is None:
        return job.picture(job.denoise(**job.from_noise()))
    with distilled(job.pipe, settings.lora), _scheduler(job, settings):
        first = replace(job, request=_first(job.request, settings))
        later, restart = _later(job, settings, settings.restart or RESTART)
        bars = job.progress_of_steps([first.table_length(), *[later.table_length(restart)] * len(sizes)])
        start = first.from_noise(job.native_size) | _first_guidance(first, settings)
        latents = first.denoise(progress=bars[0], **start)
        pipe, size = job.image_to_image() if sizes else job.pipe, job.native_size
        for bar, larger in zip(bars[1:], sizes, strict=True):
            picture = _decoded(job, latents, pipe, size, settings)
            latents = _refined(later, pipe, picture, larger, restart, settings, bar)
            size = larger
        return _decoded(job, latents, pipe, size, settings)


def enlarge(job: PictureJob, source: Image.Image) -> Image.Image:
    """A picture of any size enlarged in stages; its creativity is the restart, unless the settings have one."""
    from .steps.enlarging import cut, padded_size
    from .steps.stages import stage_sizes

    request, settings, picture = job.request, fast_settings(job.request, job.architecture), source
    assert request.enlarge is not None
    sizes = stage_sizes(ImageSize(*source.size), job.size, multiple=1)
    with distilled(job.pipe, settings.lora), _scheduler(job, settings):
        later, restart = _later(job, settings, settings.restart or request.enlarge.creativity)
        pipe = job.image_to_image()
        bars = job.progress_of_steps([later.table_length(restart)] * len(sizes))
        for bar, size in zip(bars, sizes, strict=True):
            grid = padded_size(size, job.architecture.size_multiple)
            latents = _refined(later, pipe, picture, size, restart, settings, bar)
            picture = cut(_decoded(job, latents, pipe, grid, settings), size)
    return picture


def passes(request: Request, architecture: Model) -> list[Pass]:
    """What the picture is made of."""
    from .steps.stages import native_size, stage_sizes

    settings, last = fast_settings(request, architecture), size_of(request)
    before = native_size(architecture, last)
    sizes = stage_sizes(before, last, architecture.size_multiple)
    if not sizes and settings.lora is None:
        return [Denoising(last, guides(request)), Decoding(last)]
    guides_first = guides(request) and settings.lora is None
    steps, until = _first(request, settings).steps, settings.guided_until if guides_first else 0.0
    table, restart = _table(request, settings, settings.restart or RESTART)
    found: list[Pass] = [
        Denoising(before, guided, span=span, steps=steps)
        for guided, span in ((True, (0.0, until)), (False, (until, 1.0)))
        if span[0] < span[1]
    ]
    for size in sizes:
        found.append(Decoding(before, _vae(architecture, before, settings)))
        found += _stage_passes(request, architecture, settings, size, table, restart)
        before = size
    return [*found, Decoding(last, _vae(architecture, last, settings))]


def enlarging_passes(request: Request, architecture: Model, source: ImageSize) -> list[Pass]:
    """What a picture of this size is enlarged by."""
    from .steps.enlarging import padded_size
    from .steps.stages import stage_sizes

    assert request.enlarge is not None
    settings = fast_settings(request, architecture)
    table, restart = _table(request, settings, settings.restart or request.enlarge.creativity)
    found: list[Pass] = []
    for stage in stage_sizes(source, size_of(request), multiple=1):
        size = padded_size(stage, architecture.size_multiple)
        found += _stage_passes(request, architecture, settings, size, table, restart)
        found.append(Decoding(size, _vae(architecture, size, settings)))
    return found


def _stage_passes(
    request: Request, architecture: Model, settings: FastSettings, size: ImageSize, table: int, restart: float
) -> list[Pass]:
    """From a picture of this size to its latents, finished."""
    plain = settings.attention == "full" and settings.features != "coarse"
    around = None if plain else functools.partial(_cheaper, settings, architecture, size)
    recipe, guided = _recipe(settings, architecture, size), guides(request, settings.stage_guidance)
    again = Denoising(size, guided, recipe, strength=restart, steps=table, around=around)
    return [Encoding(size, _vae(architecture, size, settings)), again]


def _first(request: Request, settings: FastSettings) -> Request:
    """The request of the native picture."""
    return request.changed(steps=min(request.steps, settings.native_steps))


def _first_guidance(first: PictureJob, settings: FastSettings) -> dict[str, Any]:
    """What the call for the native picture is given of guidance."""
    if settings.lora is not None:
        return {"guidance_scale": UNGUIDED}
    steps = _guided_steps(first.table_length(), settings) if guides(first.request) else None
    return {"guided_steps": steps}


def _guided_steps(length: int, settings: FastSettings) -> int | None:
    steps = ceil(length * settings.guided_until - 1e-9)
    return None if steps >= length else steps


def _table(request: Request, settings: FastSettings, asked: float) -> tuple[int, float]:
    """The steps of the whole trajectory in a stage, and the fraction of it that the stage runs: one step at least.

    The few steps of a LoRA would begin a stage much too early, so its table has as many as one step of it takes.
    """
    from .steps.stages import at_least_one_step

    steps = request.steps
    if settings.lora is not None:
        steps = min(max(settings.native_steps, ceil(1 / asked - 1e-9) if asked > 0 else 1), _LONGEST_TABLE)
    return steps, at_least_one_step(asked, steps)


def _later(job: PictureJob, settings: FastSettings, asked: float) -> tuple[PictureJob, float]:
    """The job of a stage, and the fraction of the trajectory that it runs."""
    steps, restart = _table(job.request, settings, asked)
    return replace(job, request=job.request.changed(steps=steps)), restart


def check(request: Request) -> None:
    """Refuse a negative prompt where nothing is guided."""
    if request.settings_of(FastSettings).lora is not None and request.negative:
        raise ValueError("a distilled LoRA runs without guidance, so a negative prompt has no effect: leave it out")


@contextmanager
def _scheduler(job: PictureJob, settings: FastSettings) -> Iterator[None]:
    from ..models.schedulers import using_scheduler

    name, changed = settings.scheduler, {}
    if name is None and settings.distillation is not None:
        name, changed = settings.distillation.scheduler, dict(settings.distillation.scheduler_settings)
    with using_scheduler(job.pipe, None if job.request.scheduler else name, job.request.seed, **changed):
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
    recipe = _recipe(settings, job.architecture, grid, pipe.scheduler)
    with ExitStack() as stack:
        stack.enter_context(_cheaper(settings, job.architecture, grid, pipe))
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


def _recipe(settings: FastSettings, architecture: Any, size: ImageSize, scheduler: Any = None) -> Recipe | None:
    if settings.features == "coarse":
        return None
    if is_transformer(architecture):
        from ..patching.schedule import shifts_by_size
        from ..recipes.transformers import automatic_transformer_recipe

        grid = architecture.grid(size.height, size.width)
        return automatic_transformer_recipe(architecture, grid, shifts_by_size(scheduler))
    from ..recipes.automatic import deep_recipe

    return deep_recipe(architecture, architecture.grid_size(size), None, 1.0)


@contextmanager
def _cheaper(settings: FastSettings, architecture: Any, size: ImageSize, pipe: Any) -> Iterator[Any]:
    """What makes a step of a stage cheaper: fewer tokens, and deep features of fewer places."""
    from ..patching.coarse_features import coarse_features
    from .steps.coarse import native_places

    with ExitStack() as stack:
        stack.enter_context(_attention(settings, architecture, pipe))
        if settings.features == "coarse":
            stack.enter_context(coarse_features(pipe, native_places(architecture, size)))
        yield pipe


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
    enlarging_passes=enlarging_passes,
    check=check,
    settings=FastSettings,
)
