"""Which steps a pass has, and which of them are alike: one of each kind is counted or timed."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from .._util.sizes import Factors
from ..patching.shared_stages import differing_layers
from ..recipes.resolution import UNCHANGED, LayerChanges, resolve
from ..request.passes import Denoising
from ..unet.architecture import Architecture
from ..unet.trajectory import table_length


@dataclass(frozen=True)
class Step:
    """What one step of a pass does to the U-Net."""

    entry: int
    """Index into the scheduler's table."""
    structure: LayerChanges
    strong: LayerChanges | None
    """Of the strong denoiser of noise damping; None without."""

    def settings(self) -> Hashable:
        """Equal for steps that do the same."""
        return _frozen(self.structure), None if self.strong is None else _frozen(self.strong)

    def operations(self) -> Hashable:
        """Equal for steps with as many operations: a whole factor has those of the plain convolution.

        It matters, too, whether anything is changed at all, and with noise damping from which layer on the two
        denoisers differ: what is the same runs once.
        """
        if self.strong is None:
            return _stretched(self.structure), bool(differing_layers(self.structure, UNCHANGED)), None
        differing = frozenset(differing_layers(self.structure, self.strong))
        return _stretched(self.structure), _stretched(self.strong), differing


def steps_of(one: Denoising, architecture: Architecture, scheduler: Any, request_steps: int) -> list[Step]:
    """The steps of a pass, in order.

    Args:
        one: the pass.
        architecture: of the U-Net.
        scheduler: whose table counts; it is left as it is.
        request_steps: of the request, where the pass has no number of its own.
    """
    asked = one.steps or request_steps
    length, run = table_length(scheduler, asked), table_length(scheduler, asked, one.strength)
    first, last = (Fraction(repr(float(place))) for place in one.span)
    resolved = resolve(one.recipe, architecture, lenient=True) if one.recipe is not None else None
    found = []
    for entry in range(length - run, length):
        place = Fraction(entry, length)
        if first <= place < last:
            structure = resolved.structure(place) if resolved else UNCHANGED
            strong = resolved.strong(place) if resolved and one.guided else None
            found.append(Step(entry, structure, strong))
    return found


def _frozen(changes: LayerChanges) -> Hashable:
    return frozenset(changes.factors.items()), changes.dispersed


def _stretched(changes: LayerChanges) -> Hashable:
    """By layer how much its feature map is stretched, where it is; and the layers with larger kernels."""
    stretches = {name: (_stretch(factors, 0), _stretch(factors, 1)) for name, factors in changes.factors.items()}
    return frozenset(item for item in stretches.items() if item[1] != (1.0, 1.0)), changes.dispersed


def _stretch(factors: Factors, axis: int) -> float:
    return ceil(factors[axis]) / factors[axis]
