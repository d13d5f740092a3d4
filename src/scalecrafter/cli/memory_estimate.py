"""How much memory a picture is likely to need: reasoned from shapes, not measured."""

from __future__ import annotations

import os
from typing import Any

GIB = 1024**3
BASE = GIB // 2
"""What torch, diffusers and Python themselves hold."""
_LIVE_MAPS = 4
"""Feature maps at once in a residual block: input, normalised copy, the convolution's output and its workspace."""


def estimate_memory(outline: Any, size: tuple[int, int], item_size: int, batch: int = 2) -> int:
    """Bytes at the peak of making one picture of `size` (width, height), in numbers of `item_size` bytes.

    Weights of U-Net and VAE (and a tenth for the text encoder), and the larger of two peaks: the U-Net's (all skip
    connections of a guided pair are kept, while the widest block at the finest level works on the concatenation of
    two) and the decoder's (the last block works at full resolution, its first half as wide as the level below).
    Attention counts for nothing, since it runs in a form that keeps no square matrix.
    """
    config = outline.unet.config
    widths = tuple(config["block_out_channels"])
    factor = int(outline.vae_scale_factor)
    latents = (size[0] // factor) * (size[1] // factor)
    per_level = config.get("layers_per_block", 2)
    layers = per_level if isinstance(per_level, int) else max(per_level)
    skips = sum(width * (layers + 1) * latents / 4**level for level, width in enumerate(widths))
    working = _LIVE_MAPS * max(2 * width * latents / 4**level for level, width in enumerate(widths))
    unet_peak = batch * (skips + working)

    channels = _vae_channels(outline)
    pixels = size[0] * size[1]
    decoder_peak = _LIVE_MAPS * pixels * max(channels[0], (channels[0] + channels[min(1, len(channels) - 1)]) // 2)

    weights = 1.1 * (sum(parameter.numel() for parameter in outline.unet.parameters()) + _vae_parameters(channels))
    return int(BASE + item_size * (weights + max(unet_peak, decoder_peak)))


def available_memory(device: Any) -> tuple[int, int]:
    """(free, total) bytes of a torch device; of the machine for the CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            values = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in file)}
        return values["MemAvailable"], values["MemTotal"]
    except (OSError, KeyError):
        return total // 2, total  # no better guess where the system does not tell


def _vae_channels(outline: Any) -> tuple[int, ...]:
    if hasattr(outline, "vae_channels"):
        return tuple(outline.vae_channels)
    return tuple(outline.vae.config.block_out_channels)


def _vae_parameters(channels: tuple[int, ...]) -> int:
    """About: encoder and decoder have some five residual blocks a level, two 3×3 convolutions each."""
    return sum(5 * 2 * 9 * width * width for width in channels)
