"""Which picture sizes a U-Net was trained for and can make, read from configurations alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._util.sizes import GridSize, ModelSizes

__all__ = ["AUTOENCODERS", "ModelSizes", "autoencoder_factor", "native_grid", "pixel_factor"]

AUTOENCODERS = ("vae", "movq", "vqvae")
"""What diffusers' pipelines call the part that turns latents into pictures."""


def native_grid(config: Mapping[str, Any]) -> GridSize:
    """The latents that a U-Net of this configuration was trained on."""
    if "time_embedding_dim" in config and "sample_size" not in config:
        return GridSize(128, 128)  # Kandinsky 3, whose config is silent and whose pictures are 1024²
    native = config.get("sample_size") or 64
    if native == 96 and "num_frames" in config:
        return GridSize(72, 128)  # Stable Video Diffusion keeps SD 2.1's 96 in its config; it was trained at 1024×576
    height, width = (native, native) if isinstance(native, int) else native
    return GridSize(int(height), int(width))


def autoencoder_factor(config: Mapping[str, Any]) -> int:
    """Image pixels to one latent pixel of an autoencoder of this configuration, also of videos (Wan, Qwen-Image)."""
    if "temperal_downsample" in config:
        return int(config.get("scale_factor_spatial") or 2 ** len(config["temperal_downsample"]))
    return pixel_factor(config.get("block_out_channels") or config["encoder_block_out_channels"])


def pixel_factor(block_out_channels: object) -> int:
    """Image pixels to one latent pixel of an autoencoder with these widths, one for each of its levels."""
    return int(2 ** (len(block_out_channels) - 1))  # type: ignore[arg-type]
