"""Tiny random adapters, written to folders as the published ones come, so that they are loaded the real way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, T2IAdapter
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from tests.support.tiny_models import _seeded as seeded

EMBEDDING = 16


def controlnet_folder(path: Path, unet: Any, seed: int = 40) -> Path:
    """A ControlNet for a text-to-image U-Net."""
    channels = (4, 4, 8, 8)
    seeded(lambda: ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=channels), seed).save_pretrained(
        path
    )
    return path


def t2i_adapter_folder(path: Path, kind: str, seed: int = 50) -> Path:
    """A T2I-Adapter for the tiny U-Net of a kind (sd, sdxl)."""
    settings: dict[str, Any] = (
        {"channels": [16, 16, 32, 32], "downscale_factor": 8, "adapter_type": "full_adapter"}
        if kind == "sd"
        else {"channels": [16, 24, 32, 32], "downscale_factor": 16, "adapter_type": "full_adapter_xl"}
    )
    seeded(lambda: T2IAdapter(num_res_blocks=1, **settings), seed).save_pretrained(path)
    return path


def ip_adapter_folder(path: Path, unet: Any, seed: int = 60) -> Path:
    """An IP-Adapter (`ip_adapter.safetensors`) and the image encoder beside it."""
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=EMBEDDING,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    encoder = seeded(lambda: CLIPVisionModelWithProjection(config), seed)
    encoder.save_pretrained(path / "image_encoder")
    generator = torch.Generator().manual_seed(seed)
    text = unet.config.cross_attention_dim

    def drawn(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator) / columns**0.5

    weights = {
        "image_proj.proj.weight": drawn(4 * text, EMBEDDING),
        "image_proj.proj.bias": torch.zeros(4 * text),
        "image_proj.norm.weight": torch.ones(text),
        "image_proj.norm.bias": torch.zeros(text),
    }
    cross = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    for number, attention in enumerate(_in_processor_order(unet, cross)):
        for half in ("to_k_ip", "to_v_ip"):
            weights[f"ip_adapter.{2 * number + 1}.{half}.weight"] = drawn(attention.inner_dim, text)
    save_file(weights, path / "ip_adapter.safetensors")
    return path


def _in_processor_order(unet: Any, cross: list[Any]) -> list[Any]:
    """Cross-attention layers in the order in which the U-Net lists its processors, by which weights are numbered."""
    paths = {name: module for name, module in unet.named_modules() if module in cross}
    names = [name.removesuffix(".processor") for name in unet.attn_processors if "attn2" in name]
    return [paths[name] for name in names]


def lora_file(path: Path, unet: Any, rank: int = 2, seed: int = 70, linear: bool = False) -> Path:
    """A LoRA on every 3×3 convolution of the residual blocks and samplers, in diffusers' layout."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, module in unet.named_modules():
        if _is_inner_convolution(name, module) or (linear and name.endswith(("to_q", "to_v"))):
            weights |= _lora(f"unet.{name}.lora_A.weight", f"unet.{name}.lora_B.weight", module, rank, generator)
    save_file(weights, path)
    return path


def locon_file(path: Path, unet: Any, rank: int = 2, seed: int = 80) -> Path:
    """A LoCon as kohya's trainer writes it: keys with underscores, lora_down and lora_up, and an alpha."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, module in unet.named_modules():
        if _is_inner_convolution(name, module):
            key = f"lora_unet_{name.replace('.', '_')}"
            weights |= _lora(f"{key}.lora_down.weight", f"{key}.lora_up.weight", module, rank, generator)
            weights[f"{key}.alpha"] = torch.tensor(1.0)
    save_file(weights, path)
    return path


def _is_inner_convolution(name: str, module: Any) -> bool:
    return isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3) and "block" in name


def _lora(down: str, up: str, module: Any, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    rows, columns, *kernel = module.weight.shape
    fan_in = columns * (kernel[0] * kernel[1] if kernel else 1)
    return {
        down: torch.randn(rank, columns, *kernel, generator=generator) / fan_in**0.5,
        up: torch.randn(rows, rank, *[1] * len(kernel), generator=generator) / rank**0.5,
    }


def textual_inversion_file(path: Path, token: str, width: int, vectors: int = 2, seed: int = 90) -> Path:
    """A textual inversion of several vectors, as a single safetensors file."""
    generator = torch.Generator().manual_seed(seed)
    save_file({token: torch.randn(vectors, width, generator=generator)}, path, metadata={"format": "pt"})
    return path
