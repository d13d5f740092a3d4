"""ScaleCrafter: one pass with a recipe's re-dilation, dispersion, noise damping and FreeU.

Paper: He et al. 2024 (arXiv 2310.07702), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from .._util.text import unknown
from ..recipes.ablations import ABLATIONS
from ..request.methods import Method, MethodSettings

if TYPE_CHECKING:
    from PIL import Image

    from ..recipes.recipe import Recipe
    from .steps.job import PictureJob


class ScaleCrafterSettings(MethodSettings):
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
    with applied(pipe, recipe=recipe_of(job), freeu=job.request.freeu):
        return job.picture(job.denoise(pipe, **start), pipe)


def make_together(jobs: Sequence[PictureJob]) -> list[Image.Image]:
    """Several pictures of one batch key, and so of one recipe."""
    from ..patching.apply import applied
    from .steps.together import denoise_together, pictures

    pipe = jobs[0].pipe
    with applied(pipe, recipe=recipe_of(jobs[0]), freeu=jobs[0].request.freeu):
        return pictures(pipe, denoise_together(jobs))


def recipe_of(job: PictureJob) -> Recipe | None:
    """The request's recipe, changed by its ablation if it has one; None: the automatic one of each call."""
    from ..recipes.ablations import ablated
    from ..recipes.automatic import automatic_recipe

    recipe = job.request.resolved_recipe()
    ablation = job.settings(ScaleCrafterSettings).ablation
    if ablation is None:
        return recipe
    recipe = recipe or automatic_recipe(job.architecture, *job.latent_size)
    return ablated(ablation, recipe, job.architecture, job.table_length())


METHOD = Method(
    name="scalecrafter",
    summary="re-dilated convolutions, by the request's recipe or the automatic one",
    source="He et al. 2024 (arXiv 2310.07702), section 3",
    make=make,
    make_together=make_together,
    takes=frozenset({"recipe", "freeu", "image", "control"}),
    settings=ScaleCrafterSettings,
    without_recipe="direct",
    aliases={f"scalecrafter-{name}": {"ablation": name} for name in ABLATIONS},
)
