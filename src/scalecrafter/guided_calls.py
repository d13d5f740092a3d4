"""What the calls of a pipeline's U-Net look like, as far as noise damping must know it.

Which call is a guided pair, how many frames it has, which of its channels are noise.  Knows nothing of recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .architecture import Architecture
from .errors import ScaleCrafterError


def is_guided_pair(pipe: Any, sample: Tensor, told: bool | None) -> bool:
    """Whether a call is a pair for classifier-free guidance, the unconditional half first.

    Args:
        pipe: the pipeline, or None for a bare U-Net.
        sample: `(batch, …)`, what the U-Net is called with.
        told: as the caller of `apply` said it; None to find out.

    Raises:
        ScaleCrafterError: for an odd batch that is told to be a pair.
    """
    even = sample.shape[0] % 2 == 0
    if told is not None:
        if told and not even:
            raise ScaleCrafterError(f"a guided batch is a pair of halves, this one has {sample.shape[0]} samples")
        return told
    guides = getattr(pipe, "do_classifier_free_guidance", None)  # None also before a pipeline's first call
    if guides is not None:
        return bool(guides) and even
    if pipe is None or hasattr(type(pipe), "do_classifier_free_guidance"):
        return even
    # a pipeline that keeps it to itself: its pair is the same latents twice
    return even and bool(torch.equal(*sample.chunk(2)))


def frames_of(sample: Tensor, config: Mapping[str, Any]) -> int:
    """How many frames each sample of a U-Net call has; 1 for pictures.

    AnimateDiff and text-to-video call with `(batch, channels, frames, height, width)`, Stable Video Diffusion with
    `(batch, frames, channels, height, width)`: the number of channels tells which.
    """
    if sample.ndim != 5:
        return 1
    channels_first = sample.shape[1] == config.get("in_channels")
    return sample.shape[2] if channels_first else sample.shape[1]


def noise_channels(pipe: Any, output: Tensor) -> int:
    """How many of the channels of `output` are the prediction; the rest is a learned variance, which is not guided."""
    config = getattr(getattr(pipe, "scheduler", None), "config", {})
    learned = config.get("variance_type") in ("learned", "learned_range")
    return output.shape[1] // 2 if learned and output.ndim == 4 else output.shape[1]


def why_not_damped(pipe: Any, architecture: Architecture, told: bool | None) -> str | None:
    """Why noise damping cannot be right on a pipeline with two branches or fewer; None where it can."""
    kind = type(pipe).__name__
    if not architecture.conditional and told is not True:
        return f"{kind} is told nothing to draw, so it does not guide, and noise damping is part of guidance"
    if any("TextToVideoZero" in base.__name__ for base in type(pipe).__mro__):
        return f"the attention of {kind} counts on whole guided pairs, and noise damping calls with half of one"
    return None
