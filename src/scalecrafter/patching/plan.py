"""`plan`: what a run will do to every layer, before it runs."""

from __future__ import annotations

import os
from typing import Any

from ..errors import ScaleCrafterError
from ..recipes.automatic import automatic_recipe
from ..recipes.plan import Plan
from ..recipes.recipe import Recipe
from ..recipes.resolution import resolve
from ..recipes.transformer_plan import TransformerPlan
from ..transformer.architecture import transformer_of
from ..unet.architecture import read_architecture
from ..unet.trajectory import table_length
from .apply import applied_at_native_size, applied_recipe
from .damping import check_damping, with_possible_damping
from .transformer import plan_transformer


def plan(
    pipe: Any,
    height: int,
    width: int,
    num_inference_steps: int = 50,
    recipe: Recipe | str | os.PathLike[str] | None = None,
) -> Plan | TransformerPlan:
    """What will happen to every layer at every step of a run.

    Args:
        pipe: a pipeline, a bare U-Net or a bare transformer, on any device, the meta device included.
        height: of the picture, in image pixels.
        width: likewise.
        num_inference_steps: as the pipeline's call takes it; its scheduler's table may be longer (Heun).
        recipe: as `apply` takes it; by default the one that is applied to `pipe`, or the automatic one.

    Raises:
        SizeError: for a size that the model cannot make; it names the two nearest good ones.
        RecipeError: for a recipe that would not do what it says on this model.
    """
    if num_inference_steps < 1:
        raise ScaleCrafterError(f"num_inference_steps is {num_inference_steps}: it must be 1 or more")
    transformer = transformer_of(pipe)
    if transformer is not None:
        return plan_transformer(pipe, transformer, height, width, num_inference_steps, recipe)
    architecture = applied_at_native_size(pipe, read_architecture(pipe))
    architecture.check_size(height, width)
    chosen = recipe if isinstance(recipe, Recipe) or recipe is None else Recipe.load(recipe)
    check_damping(chosen, pipe, architecture)
    chosen = chosen or applied_recipe(pipe)
    named = chosen is not None
    if chosen is None:
        latent = (height // architecture.pixel_factor, width // architecture.pixel_factor)
        chosen = with_possible_damping(automatic_recipe(architecture, *latent), pipe, architecture)
    return Plan(
        height=height,
        width=width,
        steps=table_length(getattr(pipe, "scheduler", None), num_inference_steps),
        architecture=architecture,
        resolved=resolve(chosen, architecture, lenient=not named) if chosen is not None else None,
    )
