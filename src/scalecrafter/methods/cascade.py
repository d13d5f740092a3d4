"""A picture of the native size, then stages: enlarge it, add noise again, finish it at that size, re-dilated.

What the picture shows is settled at the native size, where a model draws one thing once.  Each stage takes it for its
starting point, as SDEdit (Meng et al. 2022, arXiv 2108.01073, section 3) does a sketch, and draws what is finer;
re-dilation of the deep layers (He et al. 2024, arXiv 2310.07702, section 3.2) keeps it from repeating things.
The noise is added by the image-to-image pipeline of the same models, with its own scheduler, so that the places in the
trajectory are those of the scheduler's full table, and a recipe's spans mean what they mean elsewhere.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .._util.sizes import ImageSize
from ..request.methods import Method, MethodSettings
from ..request.passes import Decoding, Denoising, Encoding, Pass, guides, size_of

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..recipes.recipe import Recipe
    from ..request.request import Request
    from ..transformer.architecture import TransformerArchitecture
    from ..unet.architecture import Architecture
    from .steps.job import PictureJob

    Model = Architecture | TransformerArchitecture

UNGUIDED = 1.0
"""Guidance scale of a stage that the cascade itself re-dilates, by default: the conditional prediction alone.  What is
in the picture is settled by then, and guidance multiplies the error that re-dilation makes in predicting noise (the
paper's reason for noise-damped guidance, section 3.4).  It saves half the evaluations; docs/log/quality.md."""

FLOW_RESTART = 0.3
"""The restart of a stage with a transformer where nothing says another: HiFlow's last stage runs 10 of 30 steps."""


def _each(value: Any) -> Any:
    """One number for all stages, or a list with one for each."""
    return (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Restart = Annotated[float, Field(gt=0.0, le=1.0)]
Guidance = Annotated[float, Field(ge=0.0, le=100.0)]


class CascadeSettings(MethodSettings):
    """How the stages of a cascade after the first are run.

    Where several values can be given, they are those of one stage after the other, and the last holds for all that
    follow.  A recipe in the request acts in all of these stages in the place of `levels` and `until`; the recipe
    "none" leaves them undilated.
    """

    restart: Annotated[tuple[Restart, ...], BeforeValidator(_each), Field(min_length=1)] = (0.04,)
    """Fraction of the trajectory that is still to run after the noise has been added again; a stage runs at least one
    step, however few there are.  The default is measured in docs/log/quality.md."""
    guidance: Annotated[tuple[Guidance, ...], BeforeValidator(_each), Field(min_length=1)] | None = None
    """Guidance scale; None: 1, which is without guidance, and with a recipe of the request's own its guidance."""
    upsample: Literal["pixels", "latents"] = "pixels"
    """Enlarge the decoded picture with Lanczos, or the latents bilinearly.  Latents between those of two pixels are
    not those of the picture between them, so that enlarged latents decode to smears; pixels cost a decoding and an
    encoding."""
    levels: int | None = Field(default=None, ge=0)
    """How many of the deepest levels are re-dilated, beside the middle block, by the ratio of the stage's size to the
    native one.  None: all but the finest."""
    until: float = Field(default=1.0, gt=0.0, le=1.0)
    """Where that ends, as a fraction of the whole trajectory: a stage that restarts half-way begins at 0.5."""

    def restart_of(self, stage: int) -> float:
        """Of the stage with this number; 0 is the first after the native size."""
        return self.restart[min(stage, len(self.restart) - 1)]

    def guidance_of(self, stage: int) -> float | None:
        """Likewise; None: the default."""
        return None if self.guidance is None else self.guidance[min(stage, len(self.guidance) - 1)]


def make(job: PictureJob) -> Image.Image:
    """The picture; at the native size there is one stage, direct inference."""
    settings = cascade_settings(job.request, job.architecture)
    sizes = job.stage_sizes()
    restarts = _restarts(job.request, settings, len(sizes))
    bars = job.progress_of_passes([1.0, *restarts])

    latents = job.denoise(progress=bars[0], **job.from_noise(job.native_size))
    pipe = job.image_to_image() if sizes else job.pipe
    for stage, size in enumerate(sizes):
        start = job.from_image(_enlarged(job, pipe, latents, size, settings.upsample), restarts[stage], size)
        recipe = stage_recipe(job.request, settings, job.architecture, size, job.pipe.scheduler)
        guidance = _guidance(job.request, settings.guidance_of(stage), recipe, job.architecture)
        with _redilated(pipe, recipe):
            latents = job.denoise(pipe, progress=bars[stage + 1], guidance_scale=guidance, **start)
    return job.picture(latents, pipe)


def enlarge(job: PictureJob, source: Image.Image) -> Image.Image:
    """A picture of any size enlarged in stages; its creativity is the restart, unless the settings have one."""
    from PIL import Image

    from ..models.denoisers import unguided
    from .steps.enlarging import cut, padded, padded_size
    from .steps.stages import at_least_one_step, stage_sizes

    request = job.request
    assert request.enlarge is not None
    settings = cascade_settings(request, job.architecture)
    sizes = stage_sizes(ImageSize(*source.size), job.size, multiple=1)
    stages = range(len(sizes))
    by_settings = request.settings is not None
    asked = [settings.restart_of(stage) if by_settings else request.enlarge.creativity for stage in stages]
    restarts = [at_least_one_step(restart, request.steps) for restart in asked]
    pipe, picture = job.image_to_image(), source
    bars = job.progress_of_passes(restarts)
    for stage, size in enumerate(sizes):
        grid = padded_size(size, job.architecture.size_multiple)
        start = padded(picture.resize(size, Image.Resampling.LANCZOS), grid)
        recipe = stage_recipe(request, settings, job.architecture, grid, pipe.scheduler)
        guidance = _guidance(request, settings.guidance_of(stage), recipe, job.architecture)
        guidance = guidance if request.prompt else unguided(pipe, guidance)
        with _redilated(pipe, recipe):
            begun = job.from_image(start, restarts[stage], grid)
            latents = job.denoise(pipe, progress=bars[stage], guidance_scale=guidance, **begun)
        picture = cut(job.picture(latents, pipe), size)
    return picture


def passes(request: Request, architecture: Model) -> list[Pass]:
    """What the picture is made of."""
    from .steps.stages import native_size, stage_sizes

    settings, last = cascade_settings(request, architecture), size_of(request)
    before = native_size(architecture, last)
    sizes = stage_sizes(before, last, architecture.size_multiple)
    found: list[Pass] = [Denoising(before, guides(request))]
    for stage, (size, restart) in enumerate(zip(sizes, _restarts(request, settings, len(sizes)), strict=True)):
        if settings.upsample == "pixels":
            found += [Decoding(before), Encoding(size)]
        recipe = stage_recipe(request, settings, architecture, size)
        guidance = _guidance(request, settings.guidance_of(stage), recipe, architecture)
        found.append(Denoising(size, guides(request, guidance), recipe, strength=restart))
        before = size
    return [*found, Decoding(last)]


def cascade_settings(request: Request, architecture: Model | None = None) -> CascadeSettings:
    """The request's own settings; a strength is another word for the restart of all stages."""
    if request.strength is not None:
        return CascadeSettings(restart=(request.strength,))
    settings = request.settings_of(CascadeSettings)
    if architecture is None or not _is_transformer(architecture):
        return settings
    for name in ("levels", "until"):
        if getattr(settings, name) != CascadeSettings.model_fields[name].default:
            from ..errors import RecipeError

            raise RecipeError(f"{name} has no effect with a transformer, which has no levels: leave it out")
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
    from ..recipes.automatic import deep_recipe

    latents = architecture.grid_size(size)
    return request.resolved_recipe() or deep_recipe(architecture, latents, settings.levels, settings.until)


def _is_transformer(architecture: Model) -> bool:
    from ..transformer.architecture import TransformerArchitecture

    return isinstance(architecture, TransformerArchitecture)


def check(request: Request) -> None:
    """Refuse two words for the restart."""
    if request.settings is not None and request.strength is not None:
        raise ValueError("the strength of a cascade is its restart: give one of the two")


def _restarts(request: Request, settings: CascadeSettings, stages: int) -> list[float]:
    """Of each stage the fraction of the trajectory that it runs: one step at least."""
    from .steps.stages import at_least_one_step

    return [at_least_one_step(settings.restart_of(stage), request.steps) for stage in range(stages)]


def _enlarged(job: PictureJob, pipe: Any, latents: Tensor, size: ImageSize, upsample: str) -> Image.Image | Tensor:
    """What a stage starts from."""
    if upsample == "latents":
        return job.enlarged(latents, size)
    from PIL import Image

    return job.picture(latents, pipe).resize(size, Image.Resampling.LANCZOS)


def _redilated(pipe: Any, recipe: Recipe | None) -> AbstractContextManager[Any]:
    from ..patching.apply import applied

    return nullcontext() if recipe is None else applied(pipe, recipe=recipe)


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
    takes=frozenset({"recipe", "strength"}),
    settings=CascadeSettings,
    default_strength=CascadeSettings().restart[0],
    check=check,
)
