"""How much memory a picture is likely to need: computed from shapes, not measured."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    import torch

BASE = 2**29
"""What torch, diffusers and Python themselves hold."""
_LIVE_MAPS = 4
"""Feature maps at once in a residual block: input, normalised copy, the convolution's output and its workspace."""


def estimate_memory(outline: Any, size: tuple[int, int], dtype: torch.dtype, batch: int = 2) -> int:
    """Bytes at the peak of making one picture.

    The sum of the weights of U-Net and VAE (and a tenth for the text encoder) and the larger of two peaks.  The
    U-Net's: all skip connections of a guided pair are kept, while the widest block at the finest level works on the
    concatenation of two.  The decoder's: that of one whole pass (`vae.decode_memory`).  Attention counts for nothing,
    since it runs in a form that keeps no square matrix.

    Args:
        outline: of the model, with modules on the meta device (`models.loading.load_outline`), or a whole pipeline.
        size: (width, height) in image pixels.
        dtype: of weights and feature maps.
        batch: samples in one call of the U-Net.
    """
    from ..vae import decode_memory

    if getattr(outline, "unet", None) is None:
        return _of_transformer(outline, size, dtype, batch)
    config, vae = outline.unet.config, outline.vae
    widths = tuple(config["block_out_channels"])
    factor = int(outline.vae_scale_factor)
    latents = (size[0] // factor) * (size[1] // factor)
    per_level = config.get("layers_per_block", 2)
    layers = per_level if isinstance(per_level, int) else max(per_level)
    skips = sum(width * (layers + 1) * latents / 4**level for level, width in enumerate(widths))
    working = _LIVE_MAPS * max(2 * width * latents / 4**level for level, width in enumerate(widths))
    peak = dtype.itemsize * batch * (skips + working)
    if vae is not None:
        with suppress(ModelError):  # of a VAE with unknown layers nothing can be said
            peak = max(peak, decode_memory(vae, height=size[1], width=size[0])[0] * dtype.itemsize / vae.dtype.itemsize)
    modules = [outline.unet] if vae is None else [outline.unet, vae]
    weights = 1.1 * sum(parameter.numel() for module in modules for parameter in module.parameters())
    return int(BASE + dtype.itemsize * weights + peak)


_EXPANSION = 16
"""Numbers that a block of a transformer holds for each of a token's: queries, keys, values, the wide layer, copies."""


def _of_transformer(outline: Any, size: tuple[int, int], dtype: torch.dtype, batch: int) -> int:
    """The same of a transformer, whose text encoders are often as large as it is, and are not counted."""
    from ..models.denoisers import read_model
    from ..vae import decode_memory

    architecture, config = read_model(outline), outline.transformer.config
    heads = config.get("num_attention_heads") or config.get("n_heads") or 1
    width = int(config.get("dim") or heads * config.get("attention_head_dim", 64))
    tokens = (size[0] // architecture.size_multiple) * (size[1] // architecture.size_multiple)
    peak = float(dtype.itemsize * batch * _EXPANSION * width * tokens)
    modules = [outline.transformer] if outline.vae is None else [outline.transformer, outline.vae]
    if outline.vae is not None:
        with suppress(ModelError):
            needed = decode_memory(outline.vae, height=size[1], width=size[0])[0]
            peak = max(peak, needed * dtype.itemsize / outline.vae.dtype.itemsize)
    weights = sum(parameter.numel() for module in modules for parameter in module.parameters())
    return int(BASE + dtype.itemsize * weights + peak)
