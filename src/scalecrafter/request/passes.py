"""What a picture is made of, before it is made: the passes that a method tells, from which its cost is estimated."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._util.sizes import ImageSize

if TYPE_CHECKING:
    from ..recipes.recipe import Recipe
    from .request import Request


@dataclass(frozen=True)
class Denoising:
    """Evaluations of the U-Net at one size."""

    size: ImageSize
    guided: bool
    """Whether each step evaluates both halves of classifier-free guidance."""
    recipe: Recipe | None = None
    """What acts on the U-Net; None leaves it as it is."""
    strength: float = 1.0
    """The fraction of the trajectory that the pass runs, up to its end, as image-to-image counts it."""
    span: tuple[float, float] = (0.0, 1.0)
    """Of its steps, those whose place in the whole trajectory is at least the first and below the second."""
    steps: int | None = None
    """Of the whole trajectory; None: the request's."""
    around: Callable[[Any], AbstractContextManager[Any]] | None = None
    """What else is on the pipeline meanwhile: called with the pipeline, and entered."""


@dataclass(frozen=True)
class Decoding:
    """Latents to a picture of this size."""

    size: ImageSize
    around: Callable[[Any], AbstractContextManager[Any]] | None = None
    """What else is on the pipeline meanwhile, as of `Denoising`."""


@dataclass(frozen=True)
class Encoding:
    """A picture of this size to latents."""

    size: ImageSize
    around: Callable[[Any], AbstractContextManager[Any]] | None = None
    """What else is on the pipeline meanwhile, as of `Denoising`."""


Pass = Denoising | Decoding | Encoding


def size_of(request: Request) -> ImageSize:
    """The size of a settled request."""
    assert request.width is not None
    assert request.height is not None
    return ImageSize(request.width, request.height)


def encodings(request: Request) -> list[Pass]:
    """What a method that starts from the request's image does with it first; under a mask it is encoded once more."""
    if request.image is None:
        return []
    return [Encoding(size_of(request))] * (1 if request.mask is None else 2)


def guides(request: Request, guidance: float | None = None) -> bool:
    """Whether classifier-free guidance acts, at the request's scale or at another."""
    return (request.guidance if guidance is None else guidance) > 1.0


def one_pass(
    request: Request,
    recipe: Recipe | None = None,
    around: Callable[[Any], AbstractContextManager[Any]] | None = None,
) -> list[Pass]:
    """The passes of a method that denoises once, at the picture's own size: from noise, or from the request's image."""
    size, strength = size_of(request), 1.0 if request.image is None else request.strength_or_default
    denoising = Denoising(size, guides(request), recipe, strength=strength, around=around)
    return [*encodings(request), denoising, Decoding(size)]
