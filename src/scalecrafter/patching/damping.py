"""Whether noise damping can act on a pipeline, and whether it acts on a U-Net call; guidance changes from run to run.

Most pipelines put both branches of their guidance into one batch, the unconditional half first (`branches.py`).
Modular ones call the U-Net once for each branch, as their guider says (`guider.py`).  What is left out is
reported once.
"""

from __future__ import annotations

import warnings
from enum import Enum
from typing import Any

from torch import Tensor, nn

from ..errors import RecipeError, ScaleCrafterError
from ..recipes.recipe import Recipe
from ..unet.architecture import Architecture
from ..unet.branches import repeats_its_latents, unsupported_guidance


class GuidanceNotice(UserWarning):
    """Part of the recipe does not act on this pipeline's guidance."""


class Branches(Enum):
    """What one U-Net call holds."""

    PAIR = "the unconditional half and then the conditional one"
    UNCONDITIONAL = "the unconditional branch alone, of a guider that damps noise"
    CONDITIONAL = "the conditional branch alone, of such a guider"
    UNDAMPED = "branches of a guider that cannot damp noise"
    UNSUPPORTED = "a guided batch that is no such pair"
    NONE = "no guidance"
    UNKNOWN = "no such pair, of a pipeline that does not tell how it guides"


def check_damping(recipe: Recipe | None, pipe: Any, architecture: Architecture, guided: bool | None = None) -> None:
    """Raise `RecipeError` if a recipe that the caller chose has noise damping, and no call of the pipeline can have it.

    Args:
        recipe: the recipe; None has no noise damping.
        pipe: the pipeline, or a bare U-Net.
        architecture: of its U-Net.
        guided: the `guided` of `apply`: whether the calls of a bare U-Net are guided pairs.

    Raises:
        RecipeError: with the reason.
    """
    reason = _why_never(pipe, architecture, guided)
    if recipe is not None and recipe.noise_damping and reason:
        raise RecipeError(f"{reason}: take a recipe without [noise_damping]")


def with_possible_damping(
    recipe: Recipe | None, pipe: Any, architecture: Architecture, guided: bool | None = None
) -> Recipe | None:
    """Remove an automatic recipe's noise damping if no call of this pipeline can be damped; see `check_damping`."""
    if recipe is None or _why_never(pipe, architecture, guided) is None:
        return recipe
    return recipe.model_copy(update={"noise_damping": None})


def _why_never(pipe: Any, architecture: Architecture, guided: bool | None) -> str | None:
    kind, unsupported = type(pipe).__name__, unsupported_guidance(pipe)
    if unsupported:
        return f"{kind} {unsupported}, and noise damping needs an unconditional and a conditional one"
    if not architecture.conditional and guided is not True:
        return f"{kind} is unconditional, so there is no classifier-free guidance to damp"
    return None


class Damping:
    """Decides for the calls of one U-Net, and is where a guider and the U-Net's hooks meet."""

    def __init__(self, named: bool, bare: bool, guided: bool | None) -> None:
        """Make one.

        Args:
            named: whether the caller named the recipe, which then must not be left undone in silence.
            bare: whether the U-Net stands alone, with no pipeline to ask.
            guided: as `apply` takes it.
        """
        self._named = named
        self._bare = bare
        self._guided = guided
        self._reported: set[Branches] = set()

    def acts_on(self, pipe: Any, unet: nn.Module, sample: Tensor, unconditional: bool) -> Branches | None:
        """Return which branches this call holds if noise damping runs on it, else None.

        Args:
            pipe: the pipeline, or None.
            unet: the U-Net that is called.
            sample: its latents, as `repeats_its_latents` takes them.
            unconditional: whether a modular pipeline's guider says that this is the unconditional branch.

        Raises:
            RecipeError: for a named recipe and a guider that leaves its noise damping undone.
            ScaleCrafterError: for an odd batch where `apply` was called with `guided=True`.
        """
        branches = self._branches(pipe, unet, sample, unconditional)
        if branches is Branches.UNDAMPED and self._named:
            raise RecipeError(
                f"the guider of this pipeline, {type(pipe.guider).__name__}, does not damp noise, which the recipe "
                "asks for: pipe.update_components(guider=scalecrafter.NoiseDampedGuidance(guidance_scale=7.5)), or "
                "take a recipe without [noise_damping]"
            )
        if branches not in self._reported:
            self._reported.add(branches)
            self._report(branches, pipe, sample)
        return branches if branches in (Branches.PAIR, Branches.UNCONDITIONAL) else None

    def _branches(self, pipe: Any, unet: nn.Module, sample: Tensor, unconditional: bool) -> Branches:
        even = sample.shape[0] % 2 == 0
        if self._guided is not None:
            if self._guided and not even:
                raise ScaleCrafterError(
                    f"a guided batch is a pair of halves, and this one has {sample.shape[0]} samples: "
                    "pass guided=False to apply, or an even batch"
                )
            return Branches.PAIR if self._guided else Branches.NONE
        if self._bare:
            return Branches.PAIR if even else Branches.NONE
        guider = getattr(pipe, "guider", None)
        if guider is not None:
            if guider.num_conditions < 2:
                return Branches.NONE
            if not getattr(guider, "damps_noise", False):
                return Branches.UNDAMPED
            return Branches.UNCONDITIONAL if unconditional else Branches.CONDITIONAL
        guides = getattr(pipe, "do_classifier_free_guidance", None)  # None also before a pipeline's first call
        if guides is not None and not guides:
            return Branches.NONE
        if unsupported_guidance(pipe) is None and repeats_its_latents(sample, unet):
            return Branches.PAIR
        return Branches.UNSUPPORTED if guides else Branches.UNKNOWN

    def _report(self, branches: Branches, pipe: Any, sample: Tensor) -> None:
        """Warn about what is left out."""
        text = None
        if branches is Branches.UNDAMPED:
            text = (
                f"the recipe of this size has noise damping, which {type(pipe.guider).__name__} cannot do: for it, "
                "pipe.update_components(guider=scalecrafter.NoiseDampedGuidance(guidance_scale=7.5))"
            )
        elif branches is Branches.UNSUPPORTED:
            text = (
                f"noise damping is left out: a U-Net call of {sample.shape[0]} samples is not an unconditional and a "
                "conditional half of the same latents (the pipeline that calls has another kind of guidance)"
            )
        elif branches is Branches.NONE and self._named and not self._bare:
            text = (
                "this run has no classifier-free guidance (guidance_scale is 1 or less, or a distilled model's own), "
                "so the recipe's [noise_damping] has nothing to act on: re-dilation and dispersion act as they are"
            )
        if text is not None:
            warnings.warn(text, GuidanceNotice, stacklevel=2)
