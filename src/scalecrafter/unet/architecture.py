"""What a U-Net is: its family, its native size, its convolutions by path.

Read from the config and the module tree, never from a model's name.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..errors import ModelError
from .families import family_of
from .ldm_names import ldm_names
from .sizes import AUTOENCODERS, ModelSizes, native_grid, pixel_factor

_OF_CONTROL = ("ctrl_", "base_to_ctrl", "control_", "controlnet_")
"""How the parts of a ControlNet-XS begin that lie inside of the U-Net; like other ControlNets, it is not dilated."""
ADAPTER_INPUT = "lora_A"
"""Where peft keeps the half of a LoRA that has the kernel of the convolution it adapts."""


@dataclass(frozen=True)
class Architecture(ModelSizes):
    """The facts about a U-Net that ScaleCrafter acts on."""

    family: str
    """sd15, sd21, sdxl, or any for all others."""
    convolutions: Mapping[str, tuple[nn.Conv2d, ...]]
    """By module path: the convolution, and the same-shaped half of every LoRA that adapts it."""
    conditional: bool = True
    """Whether its calls have a condition (text, image or class), without which there is no classifier-free guidance."""
    ldm_names: Mapping[str, str] = field(default_factory=dict)
    """By module path, what the original checkpoints of Stable Diffusion call it; empty where they have no name."""


def find_unet(pipe: Any) -> nn.Module:
    """The U-Net of a pipeline, or `pipe` itself if it is one.

    Raises:
        ModelError: if there is none.
    """
    unet: Any = getattr(pipe, "unet", None) if not _looks_like_unet(pipe) else pipe
    unet = getattr(unet, "_orig_mod", unet)  # torch.compile's wrapper
    if _looks_like_unet(unet):
        return unet  # type: ignore[no-any-return]
    raise ModelError(
        f"ScaleCrafter needs a convolutional U-Net; {_what_instead(pipe)}. "
        "Use a pipeline of the Stable Diffusion 1.x, 2.x or SDXL kind."
    )


def _looks_like_unet(module: object) -> bool:
    """Levels on the way down and up, made of 2-D convolutions, and called with a sample and its timestep."""
    module = getattr(module, "_orig_mod", module)
    if not (isinstance(module, nn.Module) and hasattr(module, "down_blocks") and hasattr(module, "up_blocks")):
        return False
    parameters = inspect.signature(type(module).forward).parameters
    named = {"sample", "timestep"} <= set(parameters)
    wraps = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return (named or wraps) and any(isinstance(part, nn.Conv2d) for part in module.modules())


def _what_instead(pipe: Any) -> str:
    """What a pipeline has in the place of a U-Net."""
    kind = type(pipe).__name__
    for name in ("transformer", "unet", "prior", "decoder"):
        module = getattr(pipe, name, None) if not isinstance(pipe, nn.Module) else None
        if _looks_like_unet(module):
            return f"{kind} calls it {name!r}: pass pipe.{name} itself"
        if isinstance(module, nn.Module):
            article = "a transformer" if name == "transformer" else "a network of another kind"
            return f"{kind} has {article} ({type(module).__name__}) in its place"
    return f"{kind} is a network of another kind" if isinstance(pipe, nn.Module) else f"{kind} has none"


def read_architecture(pipe: Any) -> Architecture:
    """Family, native size and convolutions of a pipeline's U-Net, or of a bare one."""
    unet = find_unet(pipe)
    config: Mapping[str, Any] = getattr(unet, "config", {})
    levels = len(unet.down_blocks)  # type: ignore[arg-type]
    native = native_grid(config)
    convolutions = convolutions_by_path(unet)
    return Architecture(
        family=family_of(config, levels),
        native_height=native.height,
        native_width=native.width,
        levels=levels,
        pixel_factor=_pixel_factor(pipe, config),
        convolutions=convolutions,
        conditional=_is_conditional(config),
        ldm_names=ldm_names(unet, convolutions),
    )


def _is_conditional(config: Mapping[str, Any]) -> bool:
    keys = ("cross_attention_dim", "encoder_hid_dim", "addition_embed_type", "class_embed_type", "num_class_embeds")
    return any(config.get(key) is not None for key in keys)


def _pixel_factor(pipe: Any, config: Mapping[str, Any]) -> int:
    factor = getattr(pipe, "vae_scale_factor", None)
    if isinstance(factor, int):
        return factor
    autoencoder = find_autoencoder(pipe)
    if autoencoder is not None:
        return pixel_factor(autoencoder.config.block_out_channels)
    in_pixel_space = config.get("in_channels") in (1, 3, 6) and config.get("out_channels") in (1, 3, 6)
    return 1 if in_pixel_space else 8


def find_autoencoder(pipe: Any) -> Any:
    """What turns a pipeline's latents into pictures, by the names that diffusers' pipelines give it; None without."""
    for name in AUTOENCODERS:
        autoencoder = getattr(pipe, name, None)
        if autoencoder is not None:
            return autoencoder
    return None


def convolutions_by_path(unet: nn.Module) -> dict[str, tuple[nn.Conv2d, ...]]:
    """By module path: every convolution, and the same-shaped half of every LoRA that adapts it."""
    found: dict[str, list[nn.Conv2d]] = {}
    for path, module in unet.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        parts = [part for part in path.split(".") if part != "base_layer"]
        if any(part.startswith(_OF_CONTROL) for part in parts):
            continue
        if ADAPTER_INPUT in parts:
            parts = parts[: parts.index(ADAPTER_INPUT)]
        elif any(part.startswith("lora_") for part in parts):
            continue
        found.setdefault(".".join(parts), []).append(module)
    return {path: tuple(modules) for path, modules in found.items()}
