"""U-Nets in the layout of the original checkpoints, as ComfyUI and the web UI of Stable Diffusion build them.

They are lists of blocks (`input_blocks`, `middle_block`, `output_blocks`) instead of levels. Read from the module tree,
their convolutions get diffusers' names, so that the same recipes hold.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import ModelError
from .architecture import Architecture
from .families import FAMILIES, family_of

_RESIDUAL = {"in_layers.2": "conv1", "out_layers.3": "conv2", "skip_connection": "conv_shortcut"}
_SAMPLERS = {"op": "conv"}
_USUAL_NATIVE = 64
"""Side of the native latents of a family that is not known."""


def has_original_layout(unet: Any) -> bool:
    """Whether a module is a U-Net in this layout."""
    return isinstance(unet, nn.Module) and hasattr(unet, "input_blocks") and hasattr(unet, "output_blocks")


def original_architecture(unet: Any, native_side: int | None = None) -> Architecture:
    """The architecture of a U-Net in the original layout, its convolutions by diffusers' names.

    Args:
        unet: the module with `input_blocks`, `middle_block` and `output_blocks`.
        native_side: of the latents that it was trained on, in latent pixels; None: its family's.

    Raises:
        ModelError: for another module.
    """
    if not has_original_layout(unet):
        raise ModelError(
            f"{type(unet).__name__} is no U-Net of the Stable Diffusion 1.x, 2.x or XL kind: ScaleCrafter acts on the "
            "convolutions of those"
        )
    places, levels = _places(unet)
    convolutions: dict[str, tuple[nn.Conv2d, ...]] = {}
    originals: dict[str, str] = {}
    for path, module in unet.named_modules():
        name = _name(path, places) if isinstance(module, nn.Conv2d) else None
        if name is not None:
            convolutions[name], originals[name] = (module,), path
    config = {
        "cross_attention_dim": _context_width(unet),
        "addition_embed_type": "text_time" if getattr(unet, "label_emb", None) is not None else None,
    }
    family = family_of(config, levels)
    known = FAMILIES[family].checkpoint.sample_size if family in FAMILIES else _USUAL_NATIVE
    side = native_side or known
    return Architecture(
        family=family,
        native_height=side,
        native_width=side,
        levels=levels,
        pixel_factor=8,
        convolutions=convolutions,
        ldm_names=originals,
    )


def _places(unet: Any) -> tuple[dict[str, str], int]:
    """Path of each part in the original → its path in diffusers; and the number of levels."""
    places = {"input_blocks.0.0": "conv_in", "out.2": "conv_out"}
    level = layer = 0
    for number, block in enumerate(unet.input_blocks):
        if number == 0:
            continue
        first = block[0]
        if hasattr(first, "in_layers"):
            places |= _parts(f"input_blocks.{number}", block, f"down_blocks.{level}", layer)
            layer += 1
        else:
            places[f"input_blocks.{number}.0"] = f"down_blocks.{level}.downsamplers.0"
            level, layer = level + 1, 0
    levels = level + 1
    middle = getattr(unet, "middle_block", None)
    for number, part in enumerate(middle if middle is not None else ()):
        kind = "resnets" if hasattr(part, "in_layers") else "attentions"
        places[f"middle_block.{number}"] = f"mid_block.{kind}.{number // 2}"
    level = layer = 0
    for number, block in enumerate(unet.output_blocks):
        places |= _parts(f"output_blocks.{number}", block, f"up_blocks.{level}", layer)
        layer += 1
        if len(block) > 1 and _is_upsampler(block[len(block) - 1]):
            places[f"output_blocks.{number}.{len(block) - 1}"] = f"up_blocks.{level}.upsamplers.0"
            level, layer = level + 1, 0
    return places, levels


def _parts(original: str, block: Any, ours: str, layer: int) -> dict[str, str]:
    places = {f"{original}.0": f"{ours}.resnets.{layer}"}
    if len(block) > 1 and not _is_upsampler(block[1]):
        places[f"{original}.1"] = f"{ours}.attentions.{layer}"
    return places


def _is_upsampler(part: Any) -> bool:
    return hasattr(part, "conv") and not hasattr(part, "in_layers")


def _name(path: str, places: dict[str, str]) -> str | None:
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        place = places.get(".".join(parts[:length]))
        if place is not None:
            inner = ".".join(parts[length:])
            inner = _RESIDUAL.get(inner, _SAMPLERS.get(inner, inner))
            return f"{place}.{inner}" if inner else place
    return None


def _context_width(unet: Any) -> int | None:
    """What its cross-attention reads; None without any."""
    for path, module in unet.named_modules():
        if path.endswith("attn2.to_k"):
            return int(module.weight.shape[1])
    return None
