"""A recipe with one thing changed: what each part of a recipe is worth.

Each change is a function from a recipe to a recipe.  A change that leaves every layer at every step as it was is
refused, so that no table shows a method beside itself under another name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from types import MappingProxyType
from typing import TYPE_CHECKING

from .._util.sizes import Factors
from ..errors import RecipeError
from .recipe import Dispersion, NoiseDamping, Recipe, Redilation, shipped_recipes

if TYPE_CHECKING:
    from ..unet.architecture import Architecture
    from .resolution import LayerChanges

DYNAMIC_UNTIL = 0.6
"""The span published for SD 1.5 at four times the pixels."""
DISPERSED_UNTIL = 0.4
"""The span of the shipped dispersing recipes."""


@dataclass(frozen=True)
class Ablation:
    """One change to a recipe."""

    change: Callable[[Recipe, Architecture], Recipe]
    summary: str
    """In one line, what it does."""
    source: str
    no_effect: str
    """Why it would be the same as the recipe, where it is."""


def ablated(name: str, recipe: Recipe | None, architecture: Architecture, steps: int) -> Recipe:
    """The recipe changed as the ablation of this name says.

    Args:
        name: of `ABLATIONS`.
        recipe: what is changed; None where the automatic choice is to change nothing.
        architecture: of the U-Net that it is for.
        steps: length of the scheduler's table.

    Raises:
        RecipeError: where it would be the same at every step.
    """
    if recipe is None:
        raise RecipeError(
            f"at this size ScaleCrafter changes nothing, so its ablation {name} would be the same as the method "
            "direct: take that"
        )
    ablation = ABLATIONS[name]
    changed = ablation.change(recipe, architecture)
    if _course(changed, architecture, steps) == _course(recipe, architecture, steps):
        raise RecipeError(
            f"the ablation {name} would be the same as scalecrafter here: {ablation.no_effect}; leave it out"
        )
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
    from .automatic import deepest_layers

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


_PAPER = "He et al. 2024 (arXiv 2310.07702)"

ABLATIONS: Mapping[str, Ablation] = MappingProxyType(
    {
        "fixed": Ablation(
            fixed,
            "what the first step does, every step does",
            f"{_PAPER}, section 3.2, without its timestep-wise factors",
            "the recipe does the same at every step already",
        ),
        "dynamic": Ablation(
            dynamic,
            "re-dilation only in the first 0.6 of the trajectory, for recipes that never stop",
            f"{_PAPER}, section 3.2; the span published for SD 1.5 at four times the pixels",
            f"the recipe's spans end before {DYNAMIC_UNTIL} of the trajectory already",
        ),
        "not-progressive": Ablation(
            not_progressive,
            "the recipe's full factors to the end of its span",
            f"{_PAPER}, section 3.2, without its progressive factors",
            "no factor of the recipe shrinks",
        ),
        "progressive": Ablation(
            progressive,
            "factors that shrink over the span, for recipes whose factors stay",
            f"{_PAPER}, section 3.2",
            "all factors shrink already, or none is above 2, where shrinking ends",
        ),
        "undamped": Ablation(
            undamped, "the recipe without noise damping", f"{_PAPER}, section 3.4, left out",
            "the recipe has no noise damping",
        ),
        "damped": Ablation(
            damped,
            "noise damping with a strong denoiser dilated half as far, for recipes that have none",
            f"{_PAPER}, section 3.4; half the factors as published for SDXL at sixteen times the pixels",
            "the recipe has noise damping already, or dilates nothing",
        ),
        "dispersed": Ablation(
            dispersed,
            "with dispersed kernels in the first 0.4 of the trajectory, for recipes that have none",
            f"{_PAPER}, section 3.3",
            "the recipe disperses kernels already",
        ),
        "isotropic": Ablation(
            isotropic,
            "one factor, the geometric mean, on both axes",
            f"{_PAPER}, whose factors are one for both axes",
            "every factor of the recipe is the same on both axes",
        ),
    }
)  # fmt: skip
"""The ablations by name."""


def _course(recipe: Recipe, architecture: Architecture, steps: int) -> list[tuple[LayerChanges, LayerChanges]]:
    """What the two denoisers do at every step; they are one outside of noise damping."""
    from .resolution import resolve

    resolved = resolve(recipe, architecture)
    structures = [resolved.structure(Fraction(step, steps)) for step in range(steps)]
    strong = [resolved.strong(Fraction(step, steps)) for step in range(steps)]
    return [(structure, other or structure) for structure, other in zip(structures, strong, strict=True)]
