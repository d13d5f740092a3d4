"""Recipe × U-Net × step → what every layer does.

`resolve` turns a recipe's prefixes into layers of one U-Net; `LayerChanges` says what they do at one place of the
trajectory.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import ceil
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, nn

from .._util.sizes import Factors
from ..errors import RecipeError
from ..ops.dispersion import SCALE, dispersion_transform
from ..unet.architecture import Architecture
from ..unet.families import ANY
from ..unet.ldm_names import plain_ldm_name
from .recipe import Recipe

T = TypeVar("T")
UNET_SECTIONS = ("redilation", "dispersion", "noise_damping", "freeu")
"""What a U-Net has a use for."""

_ONLY_IN_FULL = ("conv_in", "conv_out")
_TOO_WIDE = ("down_blocks", "up_blocks", "input_blocks", "output_blocks")
"""Prefixes that are not worth proposing."""


@dataclass(frozen=True)
class LayerChanges:
    """What one evaluation of a denoiser does: nothing, where both are empty."""

    factors: Mapping[str, Factors] = field(default_factory=dict)
    """(vertical, horizontal) of every re-dilated layer."""
    dispersed: frozenset[str] = frozenset()


UNCHANGED = LayerChanges()


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe whose prefixes have become layers of one U-Net."""

    recipe: Recipe
    redilated: Mapping[str, Factors]
    dispersed: frozenset[str]
    damped: Mapping[str, Factors]
    ends: Mapping[str, float] = field(default_factory=dict)
    """Where re-dilated layers end that do so before the others."""

    @cached_property
    def transform(self) -> Tensor | None:
        """R of the dispersed layers: one object, by which their kernels are kept."""
        section = self.recipe.dispersion
        if section is None:
            return None
        try:
            found = dispersion_transform(3, section.kernel_size, SCALE, section.eta, section.feature_size)
        except ValueError as error:
            raise RecipeError(f"[dispersion] kernel_size {section.kernel_size}: {error}") from None
        return torch.from_numpy(found)

    def structure(self, place: Fraction) -> LayerChanges:
        """The structure-aware denoiser (the only one without noise damping) at `place` of the trajectory.

        `place` is the index of the timestep divided by the length of the scheduler's table: 0 is pure noise.
        """
        section = self.recipe.redilation
        if section is None or not _inside(place, section.until):
            return LayerChanges({}, self._dispersed(place))
        return self._settings(self.redilated, place, section.until, section.progressive, self.ends)

    def strong(self, place: Fraction) -> LayerChanges | None:
        """The strong denoiser at `place`; None outside the span of noise damping."""
        section = self.recipe.noise_damping
        if section is None or not _inside(place, section.until):
            return None
        return self._settings(self.damped, place, section.until, self.recipe.damping_is_progressive)

    def _dispersed(self, place: Fraction) -> frozenset[str]:
        section = self.recipe.dispersion
        return self.dispersed if section is not None and _inside(place, section.until) else frozenset()

    def _settings(
        self,
        layers: Mapping[str, Factors],
        place: Fraction,
        until: float,
        progressive: bool,
        ends: Mapping[str, float] = MappingProxyType({}),
    ) -> LayerChanges:
        dispersed = self._dispersed(place)
        factors: dict[str, Factors] = {}
        for name, axes in layers.items():
            end = ends.get(name, until)
            if not _inside(place, end):
                continue
            shrink = 1 - place / _exact(end) if progressive else None
            now = axes if shrink is None else (_progressive(axes[0], shrink), _progressive(axes[1], shrink))
            factors[name] = (now[0] / 2, now[1] / 2) if name in dispersed else now
        return LayerChanges(factors, dispersed)


def _exact(value: float) -> Fraction:
    """The decimal number that was written, not its nearest binary neighbour: 0.7 is 7/10."""
    return Fraction(repr(float(value)))


def _inside(place: Fraction, until: float) -> bool:
    return place < _exact(until)


def _progressive(factor: float, shrink: Fraction) -> float:
    """`max(ceil(d · shrink), 2)` in exact arithmetic; an axis that is not dilated (factor 1) stays so."""
    return factor if factor == 1.0 else float(max(ceil(_exact(factor) * shrink), 2))


def resolve(recipe: Recipe, architecture: Architecture, lenient: bool = False) -> ResolvedRecipe:
    """The layers that a recipe's prefixes stand for in this U-Net.

    Raises:
        RecipeError: for a recipe of another architecture, a section that is for transformers, a prefix that
            matches nothing (unless `lenient`), or a dispersed layer without a 3×3 kernel.
    """
    if recipe.architecture not in (ANY, architecture.family):
        own = f"of the family {architecture.family}" if architecture.family != ANY else "of none of the known families"
        raise RecipeError(
            f"the recipe is for the architecture {recipe.architecture}, and this U-Net is {own}: take another recipe "
            f'(scalecrafter recipes list), or a copy with architecture = "any" if its layers are meant for this U-Net'
        )
    recipe.refuse_sections_besides(UNET_SECTIONS, "a U-Net")
    redilation, dispersion, damping = recipe.redilation, recipe.dispersion, recipe.noise_damping
    dispersed = _match(dict.fromkeys(dispersion.layers), architecture, "dispersion", lenient) if dispersion else {}
    for name in dispersed:
        kernel = architecture.convolutions[name][0].kernel_size
        if kernel != (3, 3):
            raise RecipeError(f"[dispersion] needs 3×3 convolutions; {name} has a kernel of {kernel[0]}×{kernel[1]}")
    redilated = _match(redilation.layers, architecture, "redilation", lenient) if redilation else {}
    ends = _match(redilation.layers_until, architecture, "redilation", lenient) if redilation else {}
    for prefix in redilation.layers_until if redilation else ():
        covered = _covered(plain_ldm_name(prefix), architecture)
        if covered and not redilated.keys() & covered:
            raise RecipeError(
                f"[redilation] layers_until of {prefix!r}: no layer below it is re-dilated, name one that is"
            )
    return ResolvedRecipe(
        recipe=recipe,
        redilated=redilated,
        dispersed=frozenset(dispersed),
        damped=_match(damping.layers, architecture, "noise_damping", lenient) if damping else {},
        ends={name: end for name, end in ends.items() if name in redilated},
    )


def _match(layers: Mapping[str, T], architecture: Architecture, section: str, lenient: bool) -> dict[str, T]:
    """Every convolution with the value of its most particular prefix, in diffusers' names or the original ones."""
    covered = {prefix: _covered(plain_ldm_name(prefix), architecture) for prefix in layers}
    missing = [prefix for prefix, names in covered.items() if not names]
    if missing and not lenient:
        raise RecipeError("; ".join(_no_match(prefix, architecture, section) for prefix in missing))
    matched: dict[str, tuple[str, T]] = {}
    # from the widest: within one naming a longer prefix covers less, and so it is across the two
    for prefix in sorted(layers, key=lambda prefix: (-len(covered[prefix]), len(prefix))):
        for name in covered[prefix]:
            before = matched.get(name)
            if before and covered[before[0]] == covered[prefix] and not prefix.startswith(before[0]):
                raise RecipeError(f"[{section}] {before[0]!r} and {prefix!r} name the same layers: keep one of them")
            matched[name] = (prefix, layers[prefix])
    return {name: matched[name][1] for name in architecture.convolutions if name in matched}


def _covered(prefix: str, architecture: Architecture) -> tuple[str, ...]:
    """The convolutions that a prefix stands for: the 3×3 ones below it, and whichever it names in full."""
    return tuple(
        name
        for name, modules in architecture.convolutions.items()
        for known in [(name, architecture.ldm_names.get(name, name))]
        if prefix in known or (_is_general(name, modules) and any(one.startswith(f"{prefix}.") for one in known))
    )


def _is_general(name: str, modules: tuple[nn.Conv2d, ...]) -> bool:
    return modules[0].kernel_size == (3, 3) and name not in _ONLY_IN_FULL


def _no_match(prefix: str, architecture: Architecture, section: str) -> str:
    names = [name for name, modules in architecture.convolutions.items() if _is_general(name, modules)]
    known = _prefixes([*names, *(architecture.ldm_names[name] for name in names if name in architecture.ldm_names)])
    near = (
        difflib.get_close_matches(plain_ldm_name(prefix), known, n=4, cutoff=0.5)
        or sorted(_prefixes(names), key=lambda n: (n.count("."), n))[:8]
    )
    return (
        f"[{section}] layer {prefix!r} matches no 3×3 convolution of this model ({architecture.levels} levels, "
        f"family {architecture.family}); near ones: {', '.join(near)}"
    )


def _prefixes(names: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            found[".".join(parts[:length])] = None
    return [prefix for prefix in found if prefix not in _TOO_WIDE]
