"""A picture of the native size, then stages: enlarge it, add noise again, finish it at that size, re-dilated.

What the picture shows is settled at the native size, where a model draws one thing once.  Each stage takes it for its
starting point, as SDEdit (Meng et al. 2022, arXiv 2108.01073, section 3) does a sketch, and draws what is finer;
re-dilation of the deep layers (He et al. 2024, arXiv 2310.07702, section 3.2) keeps it from repeating things.
The noise is added by the image-to-image pipeline of the same models, with its own scheduler, so that the places in the
trajectory are those of the scheduler's full table, and a recipe's spans mean what they mean elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from .._util.sizes import ImageSize
from ..request.methods import Method
from ..request.passes import Decoding, Denoising, Encoding, Pass, guides, size_of
from .cascade_settings import PRESETS, UNGUIDED, CascadeSettings

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..recipes.recipe import Recipe
    from ..request.request import Request
    from ..transformer.architecture import TransformerArchitecture
    from ..unet.architecture import Architecture
    from .steps.job import PictureJob

    Model = Architecture | TransformerArchitecture

FLOW_RESTART = 0.3
"""The restart of a stage with a transformer where nothing says another: HiFlow's last stage runs 10 of 30 steps."""


def make(job: PictureJob) -> Image.Image:
    """The picture; at the native size there is one stage, direct inference."""
    request, settings = job.request, cascade_settings(job.request, job.architecture)
    sizes = job.stage_sizes()
    strengths = [1.0, *_restarts(request, settings, len(sizes))]
    steps = _steps(job, settings, strengths)
    bars = job.progress_of_steps(steps)

    native = job.from_noise(job.native_size)
    with settings.steered(job.pipe):
        latents = _run(job, job.pipe, settings, steps[0], bars[0], more=bool(sizes), **native)
    pipe = job.image_to_image() if sizes else job.pipe
    for stage, size in enumerate(sizes):
        start = job.from_image(_enlarged(job, pipe, latents, size, settings.upsample), strengths[stage + 1], size)
        recipe = stage_recipe(request, settings, job.architecture, size, job.pipe.scheduler)
        start["guidance_scale"] = _guidance(request, settings.guidance_of(stage), recipe, job.architecture)
        with _on_stage(job, pipe, settings, recipe):
            more, bar = stage + 1 < len(sizes), bars[stage + 1]
            latents = _run(job, pipe, settings, steps[stage + 1], bar, more=more, mixing=settings.mixing, **start)
    return job.picture(latents, pipe)


def enlarge(job: PictureJob, source: Image.Image) -> Image.Image:
    """A picture of any size enlarged in stages; its creativity is the restart, unless the settings have one."""
    from PIL import Image

    from ..models.denoisers import unguided
    from .steps.enlarging import cut, padded, padded_size
    from .steps.stages import stage_sizes

    request = job.request
    settings = cascade_settings(request, job.architecture)
    sizes = stage_sizes(ImageSize(*source.size), job.size, multiple=1)
    restarts = _enlarging_restarts(request, settings, len(sizes))
    pipe, picture = job.image_to_image(), source
    bars = job.progress_of_passes(restarts)
    for stage, size in enumerate(sizes):
        grid = padded_size(size, job.architecture.size_multiple)
        start = padded(picture.resize(size, Image.Resampling.LANCZOS), grid)
        recipe = stage_recipe(request, settings, job.architecture, grid, pipe.scheduler)
        guidance = _guidance(request, settings.guidance_of(stage), recipe, job.architecture)
        guidance = guidance if request.prompt else unguided(pipe, guidance)
        values = job.from_image(start, restarts[stage], grid) | {"guidance_scale": guidance}
        with _on_stage(job, pipe, settings, recipe):
            latents = _run(job, pipe, settings, 0, bars[stage], more=False, mixing=settings.mixing, **values)
        picture = cut(job.picture(latents, pipe), size)
    return picture


def passes(request: Request, architecture: Model) -> list[Pass]:
    """What the picture is made of."""
    from .steps.stages import native_size, stage_sizes

    settings, last = cascade_settings(request, architecture), size_of(request)
    before = native_size(architecture, last)
    sizes = stage_sizes(before, last, architecture.size_multiple)
    restarts = _restarts(request, settings, len(sizes))
    ends = [1.0 - restart if settings.refresh else 1.0 for restart in restarts] + [1.0]
    found: list[Pass] = [Denoising(before, guides(request), span=(0.0, ends[0]))]
    for stage, (size, restart) in enumerate(zip(sizes, restarts, strict=True)):
        if settings.upsample == "pixels":
            found += [Decoding(before), Encoding(size)]
        recipe = stage_recipe(request, settings, architecture, size)
        guidance = _guidance(request, settings.guidance_of(stage), recipe, architecture)
        span = (0.0, ends[stage + 1])
        found.append(Denoising(size, guides(request, guidance), recipe, strength=restart, span=span))
        before = size
    return [*found, Decoding(last)]


def enlarging_passes(request: Request, architecture: Model, source: ImageSize) -> list[Pass]:
    """What a picture of this size is enlarged by."""
    from .steps.enlarging import padded_size
    from .steps.stages import stage_sizes

    settings = cascade_settings(request, architecture)
    sizes = [padded_size(size, architecture.size_multiple) for size in stage_sizes(source, size_of(request), 1)]
    restarts, found = _enlarging_restarts(request, settings, len(sizes)), list[Pass]()
    for stage, size in enumerate(sizes):
        recipe = stage_recipe(request, settings, architecture, size)
        guidance = _guidance(request, settings.guidance_of(stage), recipe, architecture)
        guided = bool(request.prompt) and guides(request, guidance)
        found += [Encoding(size), Denoising(size, guided, recipe, strength=restarts[stage]), Decoding(size)]
    return found


def cascade_settings(request: Request, architecture: Model | None = None) -> CascadeSettings:
    """The request's own settings; a strength is another word for the restart of all stages."""
    if request.strength is not None:
        return CascadeSettings(restart=(request.strength,))
    settings = request.settings_of(CascadeSettings)
    if architecture is None or not _is_transformer(architecture):
        return settings
    for name in sorted(CascadeSettings.model_fields.keys() - {"restart", "guidance", "upsample"}):
        if getattr(settings, name) != CascadeSettings.model_fields[name].default:
            from ..errors import RecipeError

            raise RecipeError(f"{name} has no effect with a transformer: leave it out")
    return settings if request.settings is not None else settings.model_copy(update={"restart": (FLOW_RESTART,)})


def stage_recipe(
    request: Request, settings: CascadeSettings, architecture: Model, size: ImageSize, scheduler: Any = None
) -> Recipe | None:
    """The recipe of a stage at `size`; None leaves the model as it is."""
    if request.recipe == "none":
        return None
    from ..transformer.architecture import TransformerArchitecture

    if isinstance(architecture, TransformerArchitecture):
        from ..patching.schedule import shifts_by_size
        from ..recipes.transformers import automatic_transformer_recipe

        grid = architecture.grid(size.height, size.width)
        automatic = automatic_transformer_recipe(architecture, grid, shifts_by_size(scheduler))
        return request.resolved_recipe() or automatic
    if settings.dilated == "none":
        return request.resolved_recipe()
    from ..recipes.automatic import deep_recipe

    latents = architecture.grid_size(size)
    return request.resolved_recipe() or deep_recipe(
        architecture, latents, settings.levels, settings.until, up=settings.dilated == "all"
    )


def _is_transformer(architecture: Model) -> bool:
    from ..transformer.architecture import TransformerArchitecture

    return isinstance(architecture, TransformerArchitecture)


def check(request: Request) -> None:
    """Refuse two words for the restart, and what does not go together."""
    if request.settings is not None and request.strength is not None:
        raise ValueError("the strength of a cascade is its restart: give one of the two")
    settings = request.settings_of(CascadeSettings)
    if settings.refresh and request.enlarge is not None:
        raise ValueError("refresh has no effect where a picture is enlarged, which no stage drew: leave it out")
    settings.check_guidance(max(request.guidance, *(settings.guidance or (0.0,))))


def _restarts(request: Request, settings: CascadeSettings, stages: int) -> list[float]:
    """Of each stage the fraction of the trajectory that it runs: one step at least."""
    from .steps.stages import at_least_one_step

    return [at_least_one_step(settings.restart_of(stage), request.steps) for stage in range(stages)]


def _enlarging_restarts(request: Request, settings: CascadeSettings, stages: int) -> list[float]:
    """Likewise where a picture is enlarged: its creativity, unless the settings say otherwise."""
    from .steps.stages import at_least_one_step

    assert request.enlarge is not None
    asked = [request.enlarge.creativity] * stages
    if request.settings is not None:
        asked = [settings.restart_of(stage) for stage in range(stages)]
    return [at_least_one_step(restart, request.steps) for restart in asked]


def _enlarged(job: PictureJob, pipe: Any, latents: Tensor, size: ImageSize, upsample: str) -> Image.Image | Tensor:
    """What a stage starts from."""
    if upsample == "latents":
        return job.enlarged(latents, size)
    from PIL import Image

    return job.picture(latents, pipe).resize(size, Image.Resampling.LANCZOS)


def _steps(job: PictureJob, settings: CascadeSettings, strengths: list[float]) -> list[int]:
    """How many entries of the table each pass goes through."""
    from ..request.request import RequestError

    lengths = [job.table_length(strength) for strength in strengths]
    if settings.refresh:
        lengths = [length - after for length, after in zip(lengths, [*lengths[1:], 0], strict=True)]
        if min(lengths) < 1:
            raise RequestError(
                f"with refresh each stage begins where the one before it stopped, and at {job.request.steps} steps the "
                f"restarts {', '.join(f'{strength:g}' for strength in strengths[1:])} leave one without a step: let "
                "them fall from stage to stage, or raise the steps"
            )
    return lengths


def _run(
    job: PictureJob,
    pipe: Any,
    settings: CascadeSettings,
    steps: int,
    bar: Any,
    *,
    more: bool,
    mixing: float | None = None,
    **start: Any,
) -> Tensor:
    """The latents of one pass, to its end, or with `refresh` what it predicts where the next one begins."""
    from .steps.stage_start import mixed_denoise, predicted_after

    if mixing is not None:
        return mixed_denoise(job, pipe, mixing, bar, **start)
    if settings.refresh and more:
        return predicted_after(job, pipe, steps, bar, **start)
    return job.denoise(pipe, progress=bar, **start)


@contextmanager
def _on_stage(job: PictureJob, pipe: Any, settings: CascadeSettings, recipe: Recipe | None) -> Iterator[None]:
    """What acts on the U-Net in a stage after the first; steering comes last, so that it is nearest to the U-Net."""
    from ..patching.apply import applied
    from ..patching.scale_fusion import scale_fused_attention

    with ExitStack() as stack:
        if recipe is not None:
            stack.enter_context(applied(pipe, recipe=recipe))
        if settings.attention == "fused":
            native = job.architecture.grid_size(job.native_size)
            stack.enter_context(scale_fused_attention(pipe, native, job.request.seed or 0))
        stack.enter_context(settings.steered(pipe))
        yield


def _guidance(request: Request, setting: float | None, recipe: Recipe | None, architecture: Model) -> float:
    if setting is not None:
        return setting
    redilated = recipe is not None and request.recipe is None and not _is_transformer(architecture)
    return UNGUIDED if redilated else request.guidance


METHOD = Method(
    name="cascade",
    summary="a picture of the native size, then stages of at most twice the side: "
    "enlarge, add noise again, finish re-dilated",
    title="Cascade",
    plain="Draws a small picture first, then makes it larger in steps. The composition is the safest, and it is quick.",
    source="of this project: He et al. 2024 (arXiv 2310.07702), section 3.2, begun from a picture as in SDEdit "
    "(arXiv 2108.01073)",
    make=make,
    enlarge=enlarge,
    passes=passes,
    enlarging_passes=enlarging_passes,
    needs=frozenset({"image-to-image"}),
    takes=frozenset({"recipe", "strength"}),
    settings=CascadeSettings,
    default_strength=CascadeSettings().restart[0],
    check=check,
    aliases=PRESETS,
)
