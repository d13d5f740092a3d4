"""FreeU (Si et al. 2023, arXiv 2309.11497), which diffusers' up blocks carry: set and put back."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import RecipeError
from ..recipes.recipe import FreeU
from ..unet.architecture import Architecture

_PUBLISHED = {
    "sd15": FreeU(b1=1.2, b2=1.4, s1=0.9, s2=0.2),
    "sd21": FreeU(b1=1.1, b2=1.2, s1=0.9, s2=0.2),
    "sdxl": FreeU(b1=1.1, b2=1.2, s1=0.6, s2=0.4),
}
"""As the public repository of ScaleCrafter sets them for SD 1.5 and SD 2.1; SDXL as FreeU's own page has it."""

Before = list[tuple[nn.Module, dict[str, Any]]]


def published_freeu(architecture: Architecture) -> FreeU:
    """The published factors of a family.

    Raises:
        RecipeError: for an architecture without published factors.
    """
    if architecture.family not in _PUBLISHED:
        raise RecipeError(
            "freeu=True needs published factors, which this U-Net's architecture has not; "
            "give a recipe a [freeu] section with b1, b2, s1 and s2"
        )
    return _PUBLISHED[architecture.family]


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
