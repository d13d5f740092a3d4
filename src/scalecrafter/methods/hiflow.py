"""HiFlow: each run is guided by the trajectory of the one at half its size (see `patching.velocity`).

Paper: Bu et al. 2025 (arXiv 2504.06232); figures of github.com/Bujiazi/HiFlow, `run_hiflow.py`.  The picture of the
native size comes first.  Each stage enlarges it in pixels, adds noise, and follows what the run before said at the same
steps.  Ours enlarges with Lanczos, where the published code takes a bicubic kernel and sharpens at random.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from ..request.methods import Method, MethodSettings
from ..request.passes import Decoding, Denoising, Encoding, Pass, guides, size_of

if TYPE_CHECKING:
    from PIL import Image

    from ..request.request import Request
    from ..transformer.architecture import TransformerArchitecture
    from .steps.job import PictureJob


def _each(value: Any) -> Any:
    """One number for all stages, or a list with one for each."""
    return (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Restart = Annotated[float, Field(gt=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0, le=1.0)]
Guidance = Annotated[float, Field(ge=0.0, le=100.0)]


class HiFlowSettings(MethodSettings):
    """How the stages of HiFlow after the first are run; of several values the last holds for all that follow.

    A recipe in the request acts in these stages in the place of the automatic one; "none" leaves the model as it is.
    """

    restart: Annotated[tuple[Restart, ...], BeforeValidator(_each), Field(min_length=1)] = (16 / 30, 10 / 30)
    """Fraction of the trajectory that a stage runs."""
    alpha: Annotated[tuple[Weight, ...], BeforeValidator(_each), Field(min_length=1)] = (1.0, 0.25)
    """How much of the reference's low frequencies a stage takes in its first step."""
    beta: Annotated[tuple[Weight, ...], BeforeValidator(_each), Field(min_length=1)] = (0.5, 0.5)
    """How far its velocity bends as the reference's does."""
    cutoff: float = Field(default=0.2, gt=0.0)
    """Of the low pass, where 1 is the highest frequency along an axis."""
    guidance: Annotated[tuple[Guidance, ...], BeforeValidator(_each), Field(min_length=1)] | None = None
    """Guidance scale; None: the request's.  The published code has 4.5 and 6 after 3.5 with FLUX.1 [dev]."""


def _of(values: tuple[float, ...], stage: int) -> float:
    return values[min(stage, len(values) - 1)]


def make(job: PictureJob) -> Image.Image:
    """The picture; at the native size there is one stage, direct inference."""
    from PIL import Image

    from ..patching.velocity import FlowGuidance, traced_steps

    request, settings = job.request, job.settings(HiFlowSettings)
    sizes = job.stage_sizes()
    restarts = _restarts(request, settings, len(sizes))
    bars = job.progress_of_passes([1.0, *restarts])
    scheduler = job.pipe.scheduler
    first = job.architecture.grid_size(job.native_size)
    with traced_steps(scheduler, first) if sizes else nullcontext() as trace:
        latents = job.denoise(progress=bars[0], **job.from_noise(job.native_size))
    pipe = job.image_to_image() if sizes else job.pipe
    for stage, size in enumerate(sizes):
        picture = job.picture(latents, pipe).resize(size, Image.Resampling.LANCZOS)
        assert trace is not None
        follow = FlowGuidance(
            trace, _of(settings.alpha, stage), _of(settings.beta, stage), settings.cutoff,
            max(int(request.steps * restarts[stage]), 1),
        )  # fmt: skip
        guidance = request.guidance if settings.guidance is None else _of(settings.guidance, stage)
        start = job.from_image(picture, restarts[stage], size)
        with (
            _applied(job, pipe),
            traced_steps(pipe.scheduler, job.architecture.grid_size(size), follow) as trace,
        ):
            latents = job.denoise(pipe, progress=bars[stage + 1], guidance_scale=guidance, **start)
    return job.picture(latents, pipe)


def _applied(job: PictureJob, pipe: Any) -> AbstractContextManager[Any]:
    from ..patching.apply import applied

    return nullcontext() if job.request.recipe == "none" else applied(pipe, recipe=job.request.resolved_recipe())


def _restarts(request: Request, settings: HiFlowSettings, stages: int) -> list[float]:
    from .steps.stages import at_least_one_step

    return [at_least_one_step(_of(settings.restart, stage), request.steps) for stage in range(stages)]


def passes(request: Request, architecture: TransformerArchitecture) -> list[Pass]:
    """What the picture is made of."""
    from .steps.stages import native_size, stage_sizes

    settings, last = request.settings_of(HiFlowSettings), size_of(request)
    before = native_size(architecture, last)
    sizes = stage_sizes(before, last, architecture.size_multiple)
    found: list[Pass] = [Denoising(before, guides(request))]
    for size, restart in zip(sizes, _restarts(request, settings, len(sizes)), strict=True):
        found += [Decoding(before), Encoding(size), Denoising(size, guides(request), strength=restart)]
        before = size
    return [*found, Decoding(last)]


METHOD = Method(
    name="hiflow",
    summary="stages of at most twice the side, each guided by the trajectory of the one before (flow matching)",
    title="HiFlow",
    plain="Draws a small picture first, and lets it guide the large one.",
    source="Bu et al. 2025 (arXiv 2504.06232)",
    make=make,
    passes=passes,
    needs=frozenset({"image-to-image"}),
    takes=frozenset({"recipe"}),
    settings=HiFlowSettings,
    models=frozenset({"transformer"}),
)
