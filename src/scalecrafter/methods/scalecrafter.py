"""ScaleCrafter: one pass with a recipe's re-dilation, dispersion, noise damping and FreeU.

Paper: He et al. 2024 (arXiv 2310.07702), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from .._util.text import unknown
from ..recipes.ablations import ABLATIONS
from ..request.methods import Method
from ..request.passes import Pass, one_pass, size_of
from .steps.guidance_settings import GuidanceSettings

if TYPE_CHECKING:
    from PIL import Image

    from ..recipes.recipe import Recipe
    from ..request.request import Request
    from ..transformer.architecture import TransformerArchitecture
    from ..unet.architecture import Architecture
    from .steps.job import PictureJob


class ScaleCrafterSettings(GuidanceSettings):
    """The settings of the method scalecrafter."""

    ablation: str | None = Field(default=None, description="the recipe with one thing changed: " + ", ".join(ABLATIONS))

    @field_validator("ablation")
    @classmethod
    def _known_ablation(cls, value: str | None) -> str | None:
        if value is None or value in ABLATIONS:
            return value
        raise ValueError(unknown("ablation", value, ABLATIONS))

    @property
    def label(self) -> str:
        """The ablation, as it follows the method's name."""
        return "" if self.ablation is None else f"-{self.ablation}"


def make(job: PictureJob) -> Image.Image:
    """The picture with the request's recipe, or the automatic one."""
    from ..patching.apply import applied

    pipe, start = job.prepare_call()
    settings = job.settings(ScaleCrafterSettings)
    with applied(pipe, recipe=recipe_of(job), freeu=job.request.freeu), settings.steered(pipe):
        return job.picture(job.denoise(pipe, **start), pipe)


def make_batch(jobs: Sequence[PictureJob]) -> list[Image.Image]:
    """Several pictures of one batch key, and so of one recipe."""
    from ..patching.apply import applied
    from .steps.batch import denoise_batch, pictures

    pipe = jobs[0].pipe
    settings = jobs[0].settings(ScaleCrafterSettings)
    with applied(pipe, recipe=recipe_of(jobs[0]), freeu=jobs[0].request.freeu), settings.steered(pipe):
        return pictures(pipe, denoise_batch(jobs))


def recipe_of(job: PictureJob) -> Recipe | None:
    """The request's recipe, changed by its ablation if it has one; None: the automatic one of each call."""
    recipe = job.request.resolved_recipe()
    ablation = job.settings(ScaleCrafterSettings).ablation
    if ablation is None:
        return recipe
    from ..transformer.architecture import TransformerArchitecture

    if isinstance(job.architecture, TransformerArchitecture):
        from ..errors import RecipeError

        raise RecipeError(f"the ablation {ablation!r} changes a recipe for a U-Net, and this model is a transformer")
    return _acting_recipe(job.request, job.architecture, job.table_length())


def passes(request: Request, architecture: Architecture | TransformerArchitecture) -> list[Pass]:
    """What the picture is made of; of schedulers, those with a table as long as the steps."""
    from ..transformer.architecture import TransformerArchitecture

    if isinstance(architecture, TransformerArchitecture):
        from ..recipes.transformers import automatic_transformer_recipe

        size = size_of(request)
        grid = architecture.grid(size.height, size.width)
        automatic = automatic_transformer_recipe(architecture, grid, shifts=False)  # the schedule costs nothing
        return one_pass(request, request.resolved_recipe() or automatic)
    return one_pass(request, _acting_recipe(request, architecture, request.steps))


def check(request: Request) -> None:
    """Refuse settings of guidance where nothing guides."""
    request.settings_of(ScaleCrafterSettings).check_guidance(request.guidance)


def _acting_recipe(request: Request, architecture: Architecture, table_length: int) -> Recipe | None:
    """The recipe that acts, the automatic one included."""
    from ..recipes.ablations import ablated
    from ..recipes.automatic import automatic_recipe

    latents = architecture.grid_size(size_of(request))
    recipe = request.resolved_recipe() or automatic_recipe(architecture, *latents)
    ablation = request.settings_of(ScaleCrafterSettings).ablation
    return recipe if ablation is None else ablated(ablation, recipe, architecture, table_length)


METHOD = Method(
    name="scalecrafter",
    summary="re-dilated convolutions, by the request's recipe or the automatic one",
    title="ScaleCrafter",
    plain="One large picture in one go, in which a thing is drawn once. The usual choice.",
    source="He et al. 2024 (arXiv 2310.07702), section 3",
    make=make,
    make_batch=make_batch,
    passes=passes,
    takes=frozenset({"recipe", "freeu", "image", "control"}),
    settings=ScaleCrafterSettings,
    check=check,
    without_recipe="direct",
    aliases={f"scalecrafter-{name}": {"ablation": name} for name in ABLATIONS},
)
