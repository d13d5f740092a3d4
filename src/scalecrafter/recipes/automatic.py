"""The automatic recipe: for any size of any U-Net, from the published ones.

Sizes count as ratios to the native side, per axis.  Near a published size (either way round) it is that recipe.
Elsewhere each layer's factor is read, per axis, off the line through the published square recipes
(1 at the native side); the span follows in the same way.  A U-Net of an unknown family gets the general recipe below.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from math import floor, log2, sqrt
from typing import TypeVar

from .._util.sizes import Factors, GridSize
from ..errors import RecipeError
from ..unet.architecture import Architecture
from ..unet.families import FAMILIES
from .recipe import NoiseDamping, Recipe, Redilation

T = TypeVar("T")

_NEAR = 0.125
"""How far a ratio may be from a published one, in powers of two, to count as near (9 %)."""
_UNCHANGED = 1.1
"""Up to this ratio an axis is native."""
GENERAL_UNTIL = 0.5
"""Where the general recipe ends: what is there, and how large, is settled by then, and dilated convolutions would draw
what is finer coarsely (measured on critters: docs/log/quality.md).  Published recipes end between 0.5 and 0.7."""
_FROM_THE_FINEST = ((1.0, 2.0), (2.0, 3.0), (2.0, 4.0))
"""The general recipe's factors at twice and at four times the native side, from the finest level on; deeper ones have
the last.  Published recipes leave the finest level alone at twice the side, too."""
_DOUBLED = 2.0
"""How far apart an upsampler moves pixels before its convolution, whose taps need that much less dilation: of two
neighbours one is a copy of the pixel itself.  With the whole factor contours are doubled and eyes are swirls (measured
on critters: docs/log/quality.md)."""


def automatic_recipe(architecture: Architecture, height: int, width: int) -> Recipe | None:
    """The recipe for latents of `height` × `width`, or None where the model needs no help.

    Args:
        architecture: of the U-Net.
        height: of the latents, in latent pixels.
        width: likewise.
    """
    recipe = _at_any_size(architecture, height, width)
    return None if recipe is None else _of_layers_that_are_there(recipe, architecture)


def _at_any_size(architecture: Architecture, height: int, width: int) -> Recipe | None:
    vertical, horizontal = height / architecture.native_height, width / architecture.native_width
    if max(vertical, horizontal) <= _UNCHANGED:
        return None
    family = FAMILIES.get(architecture.family)
    if family and family.many_shapes and vertical * horizontal <= _UNCHANGED and max(vertical, horizontal) <= 2:
        return None
    if family is None:
        return _general_recipe(architecture.levels, sqrt(vertical * horizontal))
    for (down, across), recipe in _published(architecture.family):
        for published in ((down, across), (across, down)):
            if all(abs(log2(r / p)) <= _NEAR for r, p in zip((vertical, horizontal), published, strict=True)):
                return recipe
    return _interpolated(architecture.family, vertical, horizontal)


def _of_layers_that_are_there(recipe: Recipe, architecture: Architecture) -> Recipe | None:
    """The recipe without the blocks that a pruned U-Net lacks; None if nothing is left."""

    def there(layers: dict[str, T]) -> dict[str, T]:
        return {prefix: value for prefix, value in layers.items() if _is_there(prefix, architecture)}

    redilation, damping = recipe.redilation, recipe.noise_damping
    if redilation is None or not there(redilation.layers):
        return None
    changes: dict[str, Redilation | NoiseDamping] = {}
    if len(there(redilation.layers)) < len(redilation.layers):
        left = {"layers": there(redilation.layers), "layers_until": there(redilation.layers_until)}
        changes["redilation"] = redilation.model_copy(update=left)
    if damping and len(there(damping.layers)) < len(damping.layers):
        changes["noise_damping"] = damping.model_copy(update={"layers": there(damping.layers)})
    return recipe.model_copy(update=changes) if changes else recipe


def _is_there(prefix: str, architecture: Architecture) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for name in architecture.convolutions)


@lru_cache(maxsize=8)
def _published(family: str) -> tuple[tuple[tuple[float, float], Recipe], ...]:
    """((height, width) as ratios, recipe), from the smallest."""
    recipes = [Recipe.load(f"{family}-{size}") for size in FAMILIES[family].published]
    side = FAMILIES[family].native_side
    return tuple((((r.height or 0) / side, (r.width or 0) / side), r) for r in recipes)


def _interpolated(family: str, vertical: float, horizontal: float) -> Recipe | None:
    squares = [(down, recipe) for (down, across), recipe in _published(family) if down == across]
    spans = [(side, recipe.redilation) for side, recipe in squares if recipe.redilation]
    scale = sqrt(vertical * horizontal)
    layers = _layers(
        {p for _, s in spans for p in s.layers}, [(1.0, {}), *((a, s.layers) for a, s in spans)], vertical, horizontal
    )
    if not layers:
        return None
    damping = None
    damped = _damping_begins(family) < scale
    largest = squares[-1][1].noise_damping
    if damped and largest:
        curve: list[tuple[float, dict[str, Factors]]] = [(1.0, {}), (squares[-1][0], largest.layers)]
        damping = NoiseDamping(until=largest.until, layers=_layers(set(largest.layers), curve, vertical, horizontal))
    until = _on_line([(side, span.until) for side, span in spans], scale)
    return Recipe(
        architecture=family,
        redilation=Redilation(until=round(min(until, 1.0), 3), progressive=damped, layers=layers),
        noise_damping=damping,
    )


def _damping_begins(family: str) -> float:
    """Half-way between the largest published scale without noise damping and the smallest with it."""
    scales = [(sqrt(down * across), recipe.noise_damping is not None) for (down, across), recipe in _published(family)]
    return (max(s for s, damped in scales if not damped) + min(s for s, damped in scales if damped)) / 2


def _layers(
    prefixes: set[str], curve: list[tuple[float, dict[str, Factors]]], vertical: float, horizontal: float
) -> dict[str, Factors]:
    """Every prefix with its factor on each axis, read off the curve of (scale, published factors)."""
    found: dict[str, Factors] = {}
    for prefix in sorted(prefixes):
        line = [(scale, _factor_below(prefix, layers)) for scale, layers in curve]
        factors = (_axis(line, vertical), _axis(line, horizontal))
        nested = any(prefix.startswith(f"{other}.") for other in found)
        if nested or max(factors) > 1.0:
            found[prefix] = factors
    return found


def _factor_below(prefix: str, layers: dict[str, Factors]) -> float:
    """The factor that a recipe gives to the layers under `prefix`; 1 where it leaves them alone."""
    above = [other for other in layers if prefix == other or prefix.startswith(f"{other}.")]
    return max(layers[max(above, key=len)]) if above else 1.0


def _axis(line: list[tuple[float, float]], ratio: float) -> float:
    """The factor along one axis: whole where it nearly is, 1 where the axis is native."""
    if ratio <= _UNCHANGED:
        return 1.0
    last, value = line[-1]
    factor = _on_line(line, ratio) if ratio <= last else (value * ratio / last if value > 1.0 else 1.0)
    factor = round(factor, 3)
    return float(round(factor)) if abs(factor - round(factor)) <= 0.06 else max(factor, 1.0)


def _on_line(points: list[tuple[float, float]], at: float) -> float:
    """Linear interpolation through (x, y), constant beyond the ends."""
    if at <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if at <= x1:
            return y0 + (y1 - y0) * (at - x0) / (x1 - x0)
    return points[-1][1]


def _general_recipe(levels: int, scale: float) -> Recipe | None:
    """For an unknown U-Net: every level but the finest dilated, for the first half; upsamplers by half the factor.

    `scale` is the root of the area's ratio: on both axes the same, as published recipes are for pictures twice as wide
    as high.  None where that is native.
    """
    if scale <= _UNCHANGED:
        return None
    layers: dict[str, Factors] = {"mid_block": _general_factors(_FROM_THE_FINEST[-1], scale)}
    for level in range(levels):
        factors = _general_factors(_FROM_THE_FINEST[min(level, len(_FROM_THE_FINEST) - 1)], scale)
        up = f"up_blocks.{levels - 1 - level}"
        layers |= {f"down_blocks.{level}": factors, up: factors}
        if level > 0:
            layers[f"{up}.upsamplers"] = (max(factors[0] / _DOUBLED, 1.0), max(factors[1] / _DOUBLED, 1.0))
    return Recipe(architecture="any", redilation=Redilation(until=GENERAL_UNTIL, layers=layers))


def _general_factors(points: tuple[float, float], scale: float) -> Factors:
    """Off the line through what is said at twice and at four times the native side."""
    factor = _whole_from_two(_axis([(1.0, 1.0), (2.0, points[0]), (4.0, points[1])], scale))
    return factor, factor


def _whole_from_two(factor: float) -> float:
    """The nearest whole factor above 2: those between leave specks (measured on critters: docs/log/quality.md)."""
    return float(floor(factor + 0.5)) if factor > 2.0 else factor


def deepest_layers(architecture: Architecture, levels: int = 2) -> list[str]:
    """Prefixes of the `levels` deepest levels, on the way down and up, and of the middle block.

    Raises:
        RecipeError: for more levels than the U-Net has.
    """
    if levels > architecture.levels:
        raise RecipeError(f"levels is {levels}, and this U-Net has {architecture.levels}: set it to at most that")
    down = [f"down_blocks.{level}" for level in range(architecture.levels - levels, architecture.levels)]
    up = [f"up_blocks.{number}" for number in range(levels)]
    return [*down, "mid_block", *up]


def deep_recipe(
    architecture: Architecture, size: GridSize, levels: int | None, until: float, up: bool = True
) -> Recipe | None:
    """The deepest levels (None: all but the finest) and the middle dilated by the root of the areas' ratio.

    The picture that a stage starts from has the native area, whatever its shape, and grows alike on both axes.
    Without `up`, those on the way down alone, with the convolution that leads down to them (FreeScale, arXiv
    2412.09626).  None where the area is native.
    """
    levels = architecture.levels - 1 if levels is None else levels
    scale = sqrt(size.height * size.width / (architecture.native_height * architecture.native_width))
    if scale <= _UNCHANGED:
        return None
    prefixes = deepest_layers(architecture, levels)
    if not up:
        leading = f"down_blocks.{architecture.levels - levels - 1}.downsamplers"
        prefixes = [prefix for prefix in prefixes if not prefix.startswith("up_blocks")]
        prefixes = [leading, *prefixes] if 0 < levels < architecture.levels else prefixes
    layers = dict.fromkeys(prefixes, (round(scale, 3), round(scale, 3)))
    return Recipe(redilation=Redilation(until=until, layers=layers))
