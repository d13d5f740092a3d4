"""Small VAEs with the module tree of Stable Diffusion's, and seeded random weights that keep values O(1)."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn


def seeded(model: Any, seed: int = 0) -> Any:
    """`model` with weights that keep each layer's output O(1), its norms and biases included in the draw."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(noise * 1.4 / math.sqrt(parameter.numel() // parameter.shape[0]))
            else:
                parameter.copy_(1 + 0.1 * noise if name.endswith("weight") else 0.1 * noise)
    return model.requires_grad_(False).eval()


def sd_vae(width: int = 16, layers: int = 2, **config: Any) -> AutoencoderKL:
    """Stable Diffusion's VAE, its narrowest level `width` channels wide (the real one: 128)."""
    settings: dict[str, Any] = {
        "block_out_channels": (width, 2 * width, 4 * width, 4 * width),
        "norm_num_groups": 8,
        "layers_per_block": layers,
        "latent_channels": 4,
        "sample_size": 64,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "force_upcast": False,
    }
    return seeded(AutoencoderKL(**(settings | config)))


def wide_vae() -> AutoencoderKL:
    """One whose memory outweighs what a process takes beside it; where only time is spent, as narrow as can be."""
    return sd_vae(32, layers=1, block_out_channels=(32, 64, 64, 64))


def tiny_autoencoder(**config: Any) -> AutoencoderTiny:
    """TAESD's module tree, narrow."""
    settings: dict[str, Any] = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    return seeded(AutoencoderTiny(**(settings | config)))


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit Gaussian numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def difference(one: Tensor, other: Tensor) -> float:
    """The largest difference as a fraction of the range of `other`."""
    one, other = one.double(), other.double()
    assert one.shape == other.shape
    return float((one - other).abs().max() / (other.max() - other.min()))


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    """All convolutions."""
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]
