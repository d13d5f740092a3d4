"""What a U-Net call holds, for noise damping: a pair [unconditional, conditional] or not, frames, noise channels.

Whether it is a pair: the pipeline's class says where it never is.  Otherwise the latents of the call decide.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

_THREE = "guides in three branches"
_UNSUPPORTED = {
    "InstructPix2Pix": _THREE,
    "StableDiffusionSAGPipeline": _THREE,
    "LEditsPP": "guides in one branch for each edit",
    "SemanticStableDiffusion": "guides in one branch for each edit",
    "StableDiffusionPipelineSafe": "guides in a third branch for safety",
    "StableDiffusionPanorama": "guides in pairs that are interleaved with its views",
    "StableDiffusionParadigms": "evaluates several timesteps at once",
    "StableDiffusionGLIGENTextImage": "takes the two halves of its guidance from two calls",
    "StableDiffusionDiffEdit": "guides in four branches while it makes its mask",
    "CycleDiffusion": "guides in four branches",
    "Pix2PixZero": "edits the latents through the gradient of its calls",
    "TextToVideoZero": "lets frames attend across the whole guided batch",
}
"""Pipelines of diffusers whose calls are not such pairs: part of the class name → how they guide."""


def unsupported_guidance(pipe: Any) -> str | None:
    """How a pipeline guides, in words, where its calls are not an unconditional and a conditional half; else None."""
    return _unsupported(type(pipe))  # type: ignore[arg-type]


@functools.cache
def _unsupported(kind: Any) -> str | None:
    if hasattr(kind, "do_perturbed_attention_guidance"):
        return _THREE
    names = [base.__name__ for base in kind.__mro__]
    return next((how for part, how in _UNSUPPORTED.items() if any(part in name for name in names)), None)


def repeats_its_latents(sample: Tensor, unet: nn.Module) -> bool:
    """Whether both halves of a U-Net's batch are the same latents, as in every guided pair.

    Three branches of an even number of images are not, nor is a batch of different pictures without guidance.  What
    is concatenated to the latents (a mask, a picture) may differ from half to half.

    Args:
        sample: `(batch, channels, height, width)`, of a video `(batch, channels, frames, …)` or `(batch, frames, …)`.
        unet: whose config says how many channels are latents.
    """
    batch = sample.shape[0]
    if batch % 2:
        return False
    config: Any = getattr(unet, "config", {})
    layouts = [axis for axis in (1, 2) if sample.ndim == 5 and sample.shape[axis] == config.get("in_channels")] or [1]
    return any(_halves_are_equal(sample, axis, config.get("out_channels")) for axis in layouts)


def _halves_are_equal(sample: Tensor, axis: int, latent_channels: int | None) -> bool:
    channels = sample.shape[axis]
    latents = sample.narrow(axis, 0, min(latent_channels or channels, channels))
    first, second = latents.chunk(2)
    return first.equal(second)


def frames_of(sample: Tensor, config: Mapping[str, Any]) -> int:
    """How many frames each sample of a U-Net call has; 1 for pictures.

    AnimateDiff and text-to-video call with `(batch, channels, frames, height, width)`, Stable Video Diffusion with
    `(batch, frames, channels, height, width)`.  The number of channels shows which.
    """
    if sample.ndim != 5:
        return 1
    channels_first = sample.shape[1] == config.get("in_channels")
    return sample.shape[2] if channels_first else sample.shape[1]


def noise_channels(pipe: Any, unet_config: Mapping[str, Any], output: Tensor) -> int:
    """How many of the channels of `output` are the prediction; the rest is a learned variance, which is not guided.

    A pipeline's scheduler says whether there is one.  A bare U-Net has one where it makes twice the channels it takes.
    """
    channels = output.shape[1]
    if output.ndim != 4:
        return channels
    config = getattr(getattr(pipe, "scheduler", None), "config", None)
    if config is not None:
        learned = config.get("variance_type") in ("learned", "learned_range")
    else:
        learned = channels == 2 * (unet_config.get("in_channels") or channels)
    return channels // 2 if learned else channels
