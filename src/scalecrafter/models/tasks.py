"""Pipelines of other tasks made from one pipeline.  They share all its models, so they take no extra memory."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from ..errors import ModelError
from .loading import quiet


def text_to_image(pipe: Any, controlnets: Sequence[Any]) -> Any:
    """The pipeline that starts from noise and follows ControlNets; without any, `pipe` itself."""
    return _for_task("Text2Image", pipe, controlnets, "follows a ControlNet") if controlnets else pipe


def image_to_image(pipe: Any, controlnets: Sequence[Any] = ()) -> Any:
    """The pipeline that starts from an image, and follows ControlNets if there are any."""
    return _for_task("Image2Image", pipe, controlnets, "starts from an image")


def inpainting(pipe: Any, controlnets: Sequence[Any] = ()) -> Any:
    """The pipeline that redraws a part of an image, and follows ControlNets if there are any.

    The U-Net may be an inpainting one (9 channels: latents, mask, masked image) or a text-to-image one.  In the
    second case the part outside of the mask is put back at every step.
    """
    return _for_task("Inpainting", pipe, controlnets, "redraws a part of an image")


_ELSEWHERE = {"ChromaPipeline": {"Image2Image": "ChromaImg2ImgPipeline", "Inpainting": "ChromaInpaintPipeline"}}
"""Pipelines that diffusers has and its table of tasks does not know."""


def _for_task(task: str, pipe: Any, controlnets: Sequence[Any], does: str) -> Any:
    given = {}
    if controlnets:
        given["controlnet"] = controlnets[0] if len(controlnets) == 1 else list(controlnets)
    kind = type(pipe).__name__
    try:
        with quiet():  # that module imports every pipeline of diffusers: seconds, and notes of what is not installed
            name = _ELSEWHERE.get(kind, {}).get(task, f"AutoPipelineFor{task}")
            other = getattr(import_module("diffusers"), name).from_pipe(pipe, **given)
    except ValueError as error:
        if "find a pipeline" not in str(error):
            raise
        raise _no_pipeline(kind, does) from error
    if task != "Text2Image" and "strength" not in inspect.signature(type(other).__call__).parameters:
        raise _no_pipeline(kind, does)  # one that takes pictures as references, and draws anew
    other.set_progress_bar_config(disable=True)
    return other


def _no_pipeline(kind: str, does: str) -> ModelError:
    return ModelError(
        f"diffusers has no pipeline of the kind of {kind} that {does}: take another method or model (Stable Diffusion, "
        "FLUX.1, Chroma, Qwen-Image and Z-Image have one)"
    )
