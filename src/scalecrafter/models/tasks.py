"""A pipeline's siblings, for other tasks: they share all its models, so they take no memory of their own.

Knows which task is meant, and nothing of requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from ..errors import ModelError
from .loading import quiet


def text_to_image(pipe: Any, controlnets: Sequence[Any]) -> Any:
    """The sibling that starts from noise and follows ControlNets; without any, the pipeline itself."""
    return _sibling("AutoPipelineForText2Image", pipe, controlnets, "follows a ControlNet") if controlnets else pipe


def image_to_image(pipe: Any, controlnets: Sequence[Any] = ()) -> Any:
    """The sibling that starts from an image, and follows ControlNets if there are any."""
    return _sibling("AutoPipelineForImage2Image", pipe, controlnets, "starts from an image")


def inpainting(pipe: Any, controlnets: Sequence[Any] = ()) -> Any:
    """The sibling that redraws a part of an image, and follows ControlNets if there are any.

    The U-Net may be an inpainting one (9 channels: latents, mask, masked image) or that of text to image; then what is
    outside of the mask is put back at every step.
    """
    return _sibling("AutoPipelineForInpainting", pipe, controlnets, "redraws a part of an image")


def _sibling(auto: str, pipe: Any, controlnets: Sequence[Any], does: str) -> Any:
    given = {}
    if controlnets:
        given["controlnet"] = controlnets[0] if len(controlnets) == 1 else list(controlnets)
    try:
        with quiet():  # that module imports every pipeline of diffusers: seconds, and notes of what is not installed
            sibling = getattr(import_module("diffusers"), auto).from_pipe(pipe, **given)
    except ValueError as error:
        if "find a pipeline" not in str(error):
            raise
        raise ModelError(f"{type(pipe).__name__} has no sibling in diffusers that {does}") from error
    sibling.set_progress_bar_config(disable=True)
    return sibling
