"""How a pipeline guides: which branches of classifier-free guidance one U-Net call holds.

Noise damping acts on two branches.  Most pipelines put both into one batch, the unconditional half first; modular ones
call the U-Net once for each, as their guider says.  Asked at each call, since guidance changes from run to run.
"""

from __future__ import annotations

import warnings
from enum import Enum
from typing import Any

from .errors import RecipeError, ScaleCrafterError


class GuidanceNotice(UserWarning):
    """What the guidance does otherwise than one might expect of the recipe."""


class Branches(Enum):
    """What one U-Net call holds."""

    PAIR = "the unconditional half and then the conditional one"
    ALONE = "one branch, of a guider that tells which"
    UNDAMPED = "branches of a guider that cannot damp noise"
    NONE = "no guidance"


def branches_of_call(pipe: Any, batch: int, guided: bool | None) -> Branches:
    """What a U-Net call with `batch` samples holds.

    Args:
        pipe: the pipeline, or None for a bare U-Net.
        batch: samples of the call.
        guided: what `apply` was told about a bare U-Net.
    """
    even = batch % 2 == 0
    if guided is not None:
        if guided and not even:
            raise ScaleCrafterError(f"a guided batch is a pair of halves, this one has {batch} samples")
        return Branches.PAIR if guided else Branches.NONE
    guider = getattr(pipe, "guider", None)
    if guider is not None:
        if guider.num_conditions < 2:
            return Branches.NONE
        return Branches.ALONE if getattr(guider, "damps_noise", False) else Branches.UNDAMPED
    told = getattr(pipe, "do_classifier_free_guidance", None)  # None also before a pipeline's first call
    return Branches.PAIR if (even if told is None else bool(told) and even) else Branches.NONE


def guides_in_three_branches(pipe: Any) -> bool:
    """Whether a pipeline evaluates three branches (PAG, InstructPix2Pix) where noise damping expects two."""
    if hasattr(type(pipe), "do_perturbed_attention_guidance"):
        return True
    return any("InstructPix2Pix" in base.__name__ for base in type(pipe).__mro__)


def refuse_three_branches(pipe: Any) -> None:
    """Raise `RecipeError` for a pipeline that a recipe with noise damping does not suit."""
    if guides_in_three_branches(pipe):
        raise RecipeError(
            f"{type(pipe).__name__} guides in three branches, noise damping is for two: "
            "take a recipe without [noise_damping]"
        )


def refuse_guider(pipe: Any) -> None:
    """Raise `RecipeError` for a guider that leaves the noise damping of the named recipe undone."""
    raise RecipeError(
        f"the guider of this pipeline, {type(pipe.guider).__name__}, does not damp noise, which the recipe asks for: "
        "pipe.update_components(guider=scalecrafter.NoiseDampedGuidance(guidance_scale=7.5)), "
        "or take a recipe without [noise_damping]"
    )


def tell_of_the_guider(pipe: Any) -> None:
    """Warn that the automatic recipe does without its noise damping."""
    warnings.warn(
        f"the recipe of this size has noise damping, which {type(pipe.guider).__name__} cannot do: for it, "
        "pipe.update_components(guider=scalecrafter.NoiseDampedGuidance(guidance_scale=7.5))",
        GuidanceNotice,
        stacklevel=2,
    )


def tell_that_nothing_is_damped() -> None:
    """Warn that a run without guidance has no noise damping."""
    warnings.warn(
        "this run has no classifier-free guidance (guidance_scale is 1 or less, or a distilled model's own), so the "
        "recipe's [noise_damping] has nothing to act on: re-dilation and dispersion act as they are",
        GuidanceNotice,
        stacklevel=2,
    )
