"""What can be known of a request before its model is loaded: without torch, in a moment."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from ..errors import ModelError, RecipeError
from ..models.sources import FolderFacts, folder_facts, locate
from ..request.enlarge_source import enlarged_size
from ..request.inputs import check_inputs
from ..request.methods import METHODS, Ability, Models, methods_for
from ..request.request import Request, RequestError
from ..request.schedulers import check_scheduler

_LACKING: dict[Ability, str] = {
    "image-to-image": "cannot start from a picture (diffusers has no pipeline of its kind that does)",
    "softmax": "has attention without a softmax, and cannot sharpen it",
}


def check_request(request: Request, config: str | os.PathLike[str] | None = None) -> None:
    """Refuse a request that cannot be made, as far as that is known without loading its model.

    Args:
        request: what is asked.
        config: as `load_pipeline` takes it.

    Raises:
        RecipeError: for a recipe that does not exist, or is none.
        ModelError: for a model that does not exist, or is for another task.
        SizeError: for a size that the model cannot make.
        RequestError: for a picture that cannot be opened, or has changed; for an inpainting model without a mask.
        MissingExtraError: for a scheduler that needs another package.
    """
    request.resolved_recipe()
    check_scheduler(request.scheduler)
    facts = facts_of_model(request.model, config)
    if facts is not None:
        if request.width and request.height and request.enlarge is None:
            facts.sizes.check_size(height=request.height, width=request.width)
        check_task(request, facts.channels, facts.latent_channels)
    check_inputs(request)
    if request.enlarge is not None:
        enlarged_size(request)


def facts_of_model(model: str, config: str | os.PathLike[str] | None = None) -> FolderFacts | None:
    """What the folder of a model says; None where that takes loading it (`ModelError` for what is no model)."""
    kind, source = locate(model, config)
    return folder_facts(Path(source)) if kind == "folder" else None


def check_method(request: Request, kind: Models, lacks: Collection[Ability]) -> None:
    """Refuse what a method cannot do on this kind of model.

    Args:
        request: what is asked.
        kind: what the model denoises with.
        lacks: what it cannot do.

    Raises:
        ModelError: for a method, or ControlNets, that are for other models.
        RecipeError: for FreeU on a transformer.
    """
    method, task = METHODS[request.method], request.task
    able = methods_for(task, kind, lacks)
    instead = f"take one of {', '.join(able)}" if able else "take another model"
    if kind not in method.models:
        other = "U-Net" if kind == "transformer" else "transformer"
        raise ModelError(
            f"the method {method.name!r} is for models with a {other}, and {request.model!r} has none: {instead}"
        )
    for ability in sorted(method.needed_for(task) & frozenset(lacks)):
        raise ModelError(f"{request.model!r} {_LACKING[ability]}, as {method.name!r} would have to here: {instead}")
    if "control" in lacks and request.controls:
        raise ModelError(
            "ControlNets of transformers are not loaded by a request: in Python, make their pipeline and call "
            "scalecrafter.apply(pipe)"
        )
    if "freeu" in lacks and request.freeu:
        raise RecipeError("freeu has no effect on a transformer: FreeU is for U-Nets")


def check_task(request: Request, channels: int, latent_channels: int) -> None:
    """Refuse a U-Net that wants more than latents, except an inpainting one where there is a mask.

    Args:
        request: what is asked.
        channels: of the U-Net's input.
        latent_channels: of the VAE's latents.

    Raises:
        ModelError: for a U-Net that is made for another task.
        RequestError: for an inpainting U-Net without a mask.
    """
    if channels == latent_channels:
        return
    if channels != 2 * latent_channels + 1:
        raise ModelError(
            f"the U-Net of {request.model!r} takes {channels} channels where text to image takes {latent_channels}: "
            "it is made for a task that is not among ours (in Python, scalecrafter.apply works on its own pipeline)"
        )
    if request.mask is None:
        raise RequestError(
            f"{request.model!r} is an inpainting model: give it an image and a mask (--image and --mask), "
            "or take a text-to-image model, which can redraw a part as well"
        )
