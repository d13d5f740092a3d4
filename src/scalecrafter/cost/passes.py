"""The methods that can be costed, and the passes of the public code, which is none of our methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from .._util.sizes import ImageSize
from ..methods.steps.enlarging import enlarging_passes
from ..patching.apply import applied
from ..patching.others import whole_evaluations
from ..recipes.automatic import automatic_recipe
from ..recipes.recipe import Recipe, Redilation
from ..request.methods import METHODS
from ..request.passes import Decoding, Denoising, Pass, guides, one_pass, size_of
from ..request.request import Request, RequestError
from ..transformer.architecture import TransformerArchitecture
from ..unet.architecture import Architecture

PUBLISHED = "published"
"""The schedule of the public code (github.com/YingqingHe/ScaleCrafter): each of the two denoisers of noise damping
evaluates both halves of the guidance, four half-batches a damped step, and nothing is shared between them."""

Model = Architecture | TransformerArchitecture
Passes = Callable[[Request, Architecture], Sequence[Pass]]


def costed_methods() -> Mapping[str, Passes]:
    """By name, what tells the passes of a settled request: the two to compare with, then every method that tells."""
    found = {name: method.passes for name, method in METHODS.items() if method.passes is not None}
    return {"direct": found["direct"], PUBLISHED: published_passes} | found


def passes_of(request: Request, architecture: Model, source: ImageSize | None) -> Sequence[Pass]:
    """The passes of a settled request by its method, whether it draws, starts from a picture or enlarges one.

    Args:
        request: the request.
        architecture: of the model.
        source: the size of the picture that is enlarged; None where none is.

    Raises:
        RequestError: for a method that does not tell them.
    """
    method = METHODS[request.method]
    found: Sequence[Pass] | None = None
    if source is not None:
        found = enlarging_passes(request, architecture, source)
    elif method.passes is not None:
        found = method.passes(request, architecture)
    if found is None:
        raise RequestError(f"the method {request.method!r} does not tell what it costs")
    return found


def published_passes(request: Request, architecture: Architecture) -> list[Pass]:
    """The passes of the public code, with the request's recipe or the automatic one."""
    recipe = request.resolved_recipe() or automatic_recipe(architecture, *architecture.grid_size(size_of(request)))
    damping = recipe.noise_damping if recipe else None
    if recipe is None or damping is None or not guides(request):
        return one_pass(request, recipe, whole_evaluations)
    layers = Redilation(until=damping.until, progressive=recipe.damping_is_progressive, layers=damping.layers)
    structure = recipe.model_copy(update={"noise_damping": None})
    strong: Recipe | None = structure.model_copy(update={"redilation": layers if damping.layers else None})
    if not damping.layers and recipe.dispersion is None:
        strong = None
    size = size_of(request)
    return [
        Denoising(size, True, structure, around=whole_evaluations),
        Denoising(size, True, strong, span=(0.0, damping.until), around=whole_evaluations),
        Decoding(size),
    ]


def installed(model: Any, one: Denoising) -> AbstractContextManager[Any]:
    """For the length of a `with` block, all that a pass has on the U-Net of a model."""
    stack = ExitStack()
    if one.around is not None:
        stack.enter_context(one.around(model))
    if one.recipe is not None:
        recipe = one.recipe if one.guided else one.recipe.model_copy(update={"noise_damping": None})
        guided = one.guided if model.device.type == "meta" else None  # latents without values cannot be compared
        stack.enter_context(applied(model, recipe=recipe, guided=guided, vae_memory=None))
    return stack
