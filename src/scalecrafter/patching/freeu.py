"""FreeU (Si et al. 2023, arXiv 2309.11497), which diffusers' up blocks carry: set and put back."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import RecipeError
from ..recipes.recipe import FreeU
from ..unet.architecture import Architecture
from ..unet.families import FAMILIES

Before = list[tuple[nn.Module, dict[str, Any]]]


def published_freeu(architecture: Architecture) -> FreeU:
    """The published factors of a family.

    Raises:
        RecipeError: for an architecture without published factors.
    """
    if architecture.family not in FAMILIES:
        raise RecipeError(
            "freeu=True needs published factors, which this U-Net's architecture has not; "
            "give a recipe a [freeu] section with b1, b2, s1 and s2"
        )
    return FreeU(**FAMILIES[architecture.family].freeu)


def install_freeu(unet: nn.Module, factors: FreeU | None) -> Before:
    """Set the factors on every up block; returns what `restore_freeu` needs."""
    before: Before = []
    if factors is not None:
        for block in unet.up_blocks:  # type: ignore[union-attr]
            before.append((block, {key: block.__dict__[key] for key in factors.model_dump() if key in block.__dict__}))
            block.__dict__.update(factors.model_dump())
    return before


def restore_freeu(before: Before) -> None:
    """Put the up blocks' attributes back."""
    for block, attributes in before:
        for key in FreeU.model_fields:
            block.__dict__.pop(key, None)
        block.__dict__.update(attributes)
