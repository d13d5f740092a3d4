"""The layout of a U-Net call, for noise damping: how many frames it has, and which of its channels are noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


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
