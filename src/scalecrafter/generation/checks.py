"""What can be known of a request before its model is loaded: without torch, in a moment."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ModelError, RecipeError
from ..models.sources import FolderFacts, folder_facts, locate
from ..request.enlarge_source import enlarged_size
from ..request.inputs import check_inputs
from ..request.methods import METHODS
from ..request.request import Request, RequestError
from ..request.schedulers import check_scheduler


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


def check_method(request: Request, has_transformer: bool) -> None:
    """Refuse what a method cannot do on this kind of model.

    Raises:
        ModelError: for a method, or ControlNets, that are for the other kind.
        RecipeError: for FreeU on a transformer.
    """
    method = METHODS[request.method]
    kind, other = ("transformer", "U-Net") if has_transformer else ("unet", "transformer")
    if kind not in method.models:
        able = ", ".join(name for name, one in METHODS.items() if kind in one.models)
        raise ModelError(
            f"the method {method.name!r} is for models with a {other}, and {request.model!r} has none: "
            f"take one of {able}"
        )
    if has_transformer and request.controls:
        raise ModelError(
            "ControlNets of transformers are not loaded by a request: in Python, make their pipeline and call "
            "scalecrafter.apply(pipe)"
        )
    if has_transformer and request.freeu:
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
