"""What differs between pipelines with a U-Net and with a transformer where a picture is made.

Latents are maps `(batch, channels, height, width)` here, whatever form a pipeline holds them in.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from .._util.sizes import ModelSizes
from ..errors import ModelError
from ..ops.packing import packed, patches
from ..request.methods import Ability, Models
from ..transformer.architecture import (
    TransformerArchitecture,
    guidance_argument,
    read_transformer,
    transformer_of,
    uncompiled,
)
from ..transformer.families import TransformerFamily, transformer_family
from ..unet.architecture import Architecture, read_architecture

DISTILLED_WITH_NEGATIVE = "true_cfg_scale"
"""The argument for classifier-free guidance on top of a guidance that the model has learnt."""


def read_model(pipe: Any) -> Architecture | TransformerArchitecture:
    """Family and sizes of what a pipeline denoises with.

    Raises:
        ModelError: for neither a U-Net nor a transformer of a known family.
    """
    transformer = transformer_of(pipe)
    return read_architecture(pipe) if transformer is None else read_transformer(pipe, transformer)


def kind_of(architecture: ModelSizes) -> Models:
    """What a model denoises with, as the table of methods says it."""
    return "transformer" if isinstance(architecture, TransformerArchitecture) else "unet"


def lacks_of(architecture: ModelSizes) -> frozenset[Ability]:
    """What methods and requests cannot ask of a model."""
    if not isinstance(architecture, TransformerArchitecture):
        return frozenset()
    lacks: set[Ability] = {"freeu", "control"}
    if not architecture.kind.starts_from_pictures:
        lacks.add("image-to-image")
    if "attention" not in architecture.kind.sections:
        lacks.add("softmax")
    return frozenset(lacks)


def denoiser_of(pipe: Any) -> Any:
    """A pipeline's U-Net or transformer."""
    unet = getattr(pipe, "unet", None)
    return pipe.transformer if unet is None else unet


def denoiser_name(pipe: Any) -> str:
    """What people call it."""
    return "the transformer" if getattr(pipe, "unet", None) is None else "the U-Net"


def family_of_pipeline(pipe: Any) -> TransformerFamily | None:
    """The family of a pipeline's transformer; None where it has none."""
    transformer = getattr(pipe, "transformer", None)
    return None if transformer is None else transformer_family(uncompiled(transformer))


def taken_channels(pipe: Any) -> int:
    """Channels of the maps that its denoiser takes: more than those of latents where it is made for another task."""
    family = family_of_pipeline(pipe)
    channels = int(denoiser_of(pipe).config.in_channels)
    return channels // 4 if family is not None and family.packed else channels


def unguided(pipe: Any, guidance: float) -> float:
    """The guidance with which a pipeline evaluates the prompt alone; a model that has learnt one keeps it."""
    family = family_of_pipeline(pipe)
    if family is None:
        return 1.0
    if pipe.transformer.config.get("guidance_embeds"):
        return guidance
    return 0.0 if family.name == "z-image" else 1.0  # whose scale counts from the conditional prediction


def call_arguments(pipe: Any, prompt: Any, negative: Any, guidance: float) -> dict[str, Any]:
    """Prompt, negative prompt and guidance as a pipeline's call takes them.

    A guidance-distilled model with a negative prompt is guided twice: the request's guidance is the true scale, and the
    learnt one stays the pipeline's own.

    Raises:
        ModelError: for a negative prompt that the pipeline does not take.
    """
    parameters = inspect.signature(type(pipe).__call__).parameters
    values: dict[str, Any] = {"prompt": prompt}
    name = guidance_argument(pipe)
    given = any(negative) if isinstance(negative, list) else bool(negative)
    if family_of_pipeline(pipe) is None:
        return values | {"negative_prompt": negative if given else None, "guidance_scale": guidance}
    if given and "negative_prompt" not in parameters:
        raise ModelError(f"{type(pipe).__name__} takes no negative prompt: leave it out")
    if name == "true_cfg_scale" or (given and DISTILLED_WITH_NEGATIVE in parameters):
        values["true_cfg_scale"] = guidance
        if guidance > 1:  # without a negative prompt there would be no guidance
            blank = [one or " " for one in negative] if isinstance(negative, list) else negative or " "
            values["negative_prompt"] = blank
    else:
        values["guidance_scale"] = guidance
        if given:
            values["negative_prompt"] = negative
    words = getattr(pipe, "tokenizer_3" if hasattr(pipe, "tokenizer_3") else "tokenizer_2", None)
    longest = getattr(words, "model_max_length", None)  # of the encoder whose tokens are attended to
    usual = parameters["max_sequence_length"].default if "max_sequence_length" in parameters else None
    if isinstance(usual, int) and isinstance(longest, int) and longest < usual:
        values["max_sequence_length"] = longest
    if "use_resolution_binning" in parameters:  # Sana's, which draws the nearest size of a list
        values["use_resolution_binning"] = False
    return values


def noise_dtype(pipe: Any) -> torch.dtype:
    """The type in which a pipeline is given its noise; those of transformers convert it themselves."""
    dtype: torch.dtype = pipe.unet.dtype if family_of_pipeline(pipe) is None else torch.float32
    return dtype


def as_given(pipe: Any, latents: Tensor) -> Tensor:
    """Latents as a pipeline's call takes them."""
    family = family_of_pipeline(pipe)
    if family is None or not family.packed:
        return latents
    return patches(latents) if family.name == "flux2" else packed(latents)
