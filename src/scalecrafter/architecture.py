"""What a U-Net is: its family, its native size, its convolutions by path.

Read from the config and the module tree, never from a model's name.  Knows nothing of recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from .errors import ModelError
from .sizes import check_size

_ADAPTER_INPUT = "lora_A"
"""Where peft keeps the half of a LoRA that has the kernel of the convolution it adapts."""


@dataclass(frozen=True)
class Architecture:
    """The facts about a U-Net that ScaleCrafter acts on."""

    family: str
    """sd15, sd21, sdxl, or any for all others."""
    native_height: int
    """Height of the latents it was trained on."""
    native_width: int
    levels: int
    """Resolutions of the U-Net; each halves the one above it."""
    pixel_factor: int
    """Image pixels to one latent pixel, along each axis."""
    convolutions: Mapping[str, tuple[nn.Conv2d, ...]]
    """By module path: the convolution, and the same-shaped half of every LoRA that adapts it."""

    @property
    def size_multiple(self) -> int:
        """Image sizes must be a multiple of this: VAE factor × the U-Net's reduction."""
        return self.pixel_factor * int(2 ** (self.levels - 1))

    def check_size(self, height: int, width: int) -> None:
        """Raise `SizeError`, naming the two nearest good sizes, unless the U-Net halves this size evenly."""
        check_size(height, width, self.size_multiple)


def find_unet(pipe: Any) -> nn.Module:
    """The U-Net of a pipeline, or `pipe` itself if it is one.

    Raises:
        ModelError: if there is none.
    """
    unet: Any = getattr(pipe, "unet", None) if not _looks_like_unet(pipe) else pipe
    unet = getattr(unet, "_orig_mod", unet)  # torch.compile's wrapper
    if _looks_like_unet(unet):
        return unet  # type: ignore[no-any-return]
    transformer = getattr(pipe, "transformer", None)
    has = f"has a transformer ({type(transformer).__name__}) in its place" if transformer is not None else "has none"
    raise ModelError(
        f"ScaleCrafter needs a convolutional U-Net; {type(pipe).__name__} {has}. "
        "Use a pipeline of the Stable Diffusion 1.x, 2.x or SDXL kind."
    )


def _looks_like_unet(module: object) -> bool:
    module = getattr(module, "_orig_mod", module)
    return isinstance(module, nn.Module) and hasattr(module, "down_blocks") and hasattr(module, "up_blocks")


def read_architecture(pipe: Any) -> Architecture:
    """Family, native size and convolutions of a pipeline's U-Net, or of a bare one."""
    unet = find_unet(pipe)
    config: Mapping[str, Any] = getattr(unet, "config", {})
    levels = len(unet.down_blocks)  # type: ignore[arg-type]
    native = config.get("sample_size") or 64
    height, width = (native, native) if isinstance(native, int) else native
    return Architecture(
        family=_family(config, levels),
        native_height=int(height),
        native_width=int(width),
        levels=levels,
        pixel_factor=_pixel_factor(pipe, config),
        convolutions=_convolutions(unet),
    )


def _family(config: Mapping[str, Any], levels: int) -> str:
    if levels == 3 and config.get("addition_embed_type") == "text_time":
        return "sdxl"
    text_width = config.get("cross_attention_dim")
    if levels == 4 and not config.get("addition_embed_type"):
        return {768: "sd15", 1024: "sd21"}.get(text_width, "any") if isinstance(text_width, int) else "any"
    return "any"


def _pixel_factor(pipe: Any, config: Mapping[str, Any]) -> int:
    factor = getattr(pipe, "vae_scale_factor", None)
    if isinstance(factor, int):
        return factor
    in_pixel_space = config.get("cross_attention_dim") is None and config.get("in_channels") in (1, 3)
    return 1 if in_pixel_space else 8


def _convolutions(unet: nn.Module) -> dict[str, tuple[nn.Conv2d, ...]]:
    found: dict[str, list[nn.Conv2d]] = {}
    for path, module in unet.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        parts = [part for part in path.split(".") if part != "base_layer"]
        if _ADAPTER_INPUT in parts:
            parts = parts[: parts.index(_ADAPTER_INPUT)]
        elif any(part.startswith("lora_") for part in parts):
            continue
        found.setdefault(".".join(parts), []).append(module)
    return {path: tuple(modules) for path, modules in found.items()}


def unknown_adapters(unet: nn.Module) -> dict[str, str]:
    """Adapters on convolutions that are no LoRA and not fused: module path → kind.

    Theirs is a convolution of their own (LoHa, LoKr, OFT …) that is not a module, so it would run undilated beside its
    re-dilated base.
    """
    found = {}
    for path, module in unet.named_modules():
        base = getattr(module, "base_layer", None)
        if isinstance(base, nn.Conv2d) and not hasattr(module, _ADAPTER_INPUT) and not getattr(module, "merged", False):
            found[path] = type(module).__module__.split(".")[-2]
    return found
