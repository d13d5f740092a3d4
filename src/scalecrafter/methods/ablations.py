"""ScaleCrafter with one thing changed: what each part of a recipe is worth.

Each change is a function from a recipe to a recipe.  A change that leaves every layer at every step as it was is
refused, so that no table shows a method beside itself under another name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import sqrt

from PIL import Image

from .._util.sizes import Factors
from ..errors import RecipeError
from ..recipes.automatic import automatic_recipe
from ..recipes.planning import Settings, resolve
from ..recipes.recipe import Dispersion, NoiseDamping, Recipe, Redilation, shipped_recipes
from ..unet.architecture import Architecture
from .job import Job, table_length
from .layers import deepest_layers
from .recipe import together_with_recipe, with_recipe

DYNAMIC_UNTIL = 0.6
"""The span published for SD 1.5 at four times the pixels."""
DISPERSED_UNTIL = 0.4
"""The span of the shipped dispersing recipes."""


def make(job: Job) -> Image.Image:
    """The picture with the request's recipe, or the automatic one, changed as the method's name says."""
    return with_recipe(job, changed_recipe(job))


def make_together(jobs: Sequence[Job]) -> list[Image.Image]:
    """Several pictures of one shape, and so of one recipe."""
    return together_with_recipe(jobs, changed_recipe(jobs[0]))


def changed_recipe(job: Job) -> Recipe:
    """The request's recipe, or the automatic one, changed as the method's name says (`RecipeError`)."""
    name = job.request.method
    recipe = job.request.resolved_recipe() or automatic_recipe(job.architecture, *job.latent_size)
    if recipe is None:
        raise RecipeError(
            f"at this size ScaleCrafter changes nothing, so {name} would be the same as direct: take that"
        )
    return ablated(name, recipe, job.architecture, table_length(job.pipe.scheduler, job.request.steps))


def ablated(name: str, recipe: Recipe, architecture: Architecture, steps: int) -> Recipe:
    """The recipe changed as the method of this name says.

    Args:
        name: of `METHODS`, one of scalecrafter-….
        recipe: what is changed.
        architecture: of the U-Net that it is for.
        steps: length of the scheduler's table.

    Raises:
        RecipeError: where it would be the same at every step.
    """
    change, reason = _CHANGES[name]
    changed = change(recipe, architecture)
    if _course(changed, architecture, steps) == _course(recipe, architecture, steps):
        raise RecipeError(f"{name} would be the same as scalecrafter here: {reason}; take scalecrafter")
    return changed


def fixed(recipe: Recipe, _architecture: Architecture) -> Recipe:
    """What holds at the first step holds at every step: all spans are the whole trajectory, no factor shrinks."""
    recipe = not_progressive(recipe, _architecture)
    return _with_spans(recipe, lambda _until: 1.0)


def dynamic(recipe: Recipe, _architecture: Architecture) -> Recipe:
    """All spans end at `DYNAMIC_UNTIL` at the latest."""
    return _with_spans(recipe, lambda until: min(until, DYNAMIC_UNTIL))


def not_progressive(recipe: Recipe, _architecture: Architecture) -> Recipe:
    """Factors stay what they are to the end of their spans."""
    return _with_progress(recipe, False)


def progressive(recipe: Recipe, _architecture: Architecture) -> Recipe:
    """Factors shrink over their spans, those of a strong denoiser too."""
    return _with_progress(recipe, True)


def undamped(recipe: Recipe, _architecture: Architecture) -> Recipe:
    """Without noise damping."""
    return recipe.model_copy(update={"noise_damping": None})


def damped(recipe: Recipe, _architecture: Architecture) -> Recipe:
    """Noise damping in the span of re-dilation, with a strong denoiser that is dilated half as far.

    Half of 4 is 2, as published for SDXL at sixteen times the pixels; half of 2 is the original model.  Layers that
    end sooner than the rest stay what they were: noise damping has one span.
    """
    if recipe.redilation is None or recipe.noise_damping is not None:
        return recipe
    lasting = {p: axes for p, axes in recipe.redilation.layers.items() if p not in recipe.redilation.layers_until}
    layers = {prefix: (max(v / 2, 1.0), max(h / 2, 1.0)) for prefix, (v, h) in lasting.items()}
    return recipe.model_copy(update={"noise_damping": NoiseDamping(until=recipe.redilation.until, layers=layers)})


def dispersed(recipe: Recipe, architecture: Architecture) -> Recipe:
    """Dispersed kernels in the layers published for the architecture, else in the deepest two levels and the middle."""
    if recipe.dispersion is not None:
        return recipe
    published = [
        name for name in shipped_recipes() if name.startswith(f"{architecture.family}-") and name.endswith("-disperse")
    ]
    dispersion = (
        Recipe.load(published[-1]).dispersion
        if published
        else Dispersion(until=DISPERSED_UNTIL, layers=tuple(deepest_layers(architecture)))
    )
    return recipe.model_copy(update={"dispersion": dispersion})


def isotropic(recipe: Recipe, _architecture: Architecture) -> Recipe:
    """The geometric mean of the vertical and horizontal factor on both axes, in both denoisers."""
    update: dict[str, Redilation | NoiseDamping] = {}
    for name, section in _sections(recipe).items():
        layers = {prefix: _mean(factors) for prefix, factors in section.layers.items()}
        update[name] = section.model_copy(update={"layers": layers})
    return recipe.model_copy(update=update)


def _mean(factors: Factors) -> Factors:
    vertical, horizontal = factors
    mean = vertical if vertical == horizontal else sqrt(vertical * horizontal)
    return mean, mean


def _sections(recipe: Recipe) -> dict[str, Redilation | NoiseDamping]:
    """The sections with factors that the recipe has."""
    sections = {"redilation": recipe.redilation, "noise_damping": recipe.noise_damping}
    return {name: section for name, section in sections.items() if section is not None}


def _with_progress(recipe: Recipe, shrink: bool) -> Recipe:
    sections = _sections(recipe)
    return recipe.model_copy(
        update={name: section.model_copy(update={"progressive": shrink}) for name, section in sections.items()}
    )


def _with_spans(recipe: Recipe, change: Callable[[float], float]) -> Recipe:
    sections = {**_sections(recipe), **({"dispersion": recipe.dispersion} if recipe.dispersion else {})}
    changed = {n: section.model_copy(update={"until": change(section.until)}) for n, section in sections.items()}
    if recipe.redilation:
        ends = {prefix: change(until) for prefix, until in recipe.redilation.layers_until.items()}
        changed["redilation"] = changed["redilation"].model_copy(update={"layers_until": ends})
    return recipe.model_copy(update=changed)


_CHANGES: dict[str, tuple[Callable[[Recipe, Architecture], Recipe], str]] = {
    "scalecrafter-fixed": (fixed, "the recipe does the same at every step already"),
    "scalecrafter-dynamic": (dynamic, f"the recipe's spans end before {DYNAMIC_UNTIL} of the trajectory already"),
    "scalecrafter-not-progressive": (not_progressive, "no factor of the recipe shrinks"),
    "scalecrafter-progressive": (progressive, "all factors shrink already, or none is above 2, where shrinking ends"),
    "scalecrafter-undamped": (undamped, "the recipe has no noise damping"),
    "scalecrafter-damped": (damped, "the recipe has noise damping already, or dilates nothing"),
    "scalecrafter-dispersed": (dispersed, "the recipe disperses kernels already"),
    "scalecrafter-isotropic": (isotropic, "every factor of the recipe is the same on both axes"),
}


def _course(recipe: Recipe, architecture: Architecture, steps: int) -> list[tuple[Settings, Settings]]:
    """What the two denoisers do at every step; they are one outside of noise damping."""
    resolved = resolve(recipe, architecture)
    structures = [resolved.structure(Fraction(step, steps)) for step in range(steps)]
    strong = [resolved.strong(Fraction(step, steps)) for step in range(steps)]
    return [(structure, other or structure) for structure, other in zip(structures, strong, strict=True)]
