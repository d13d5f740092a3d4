"""What the original checkpoints of Stable Diffusion call the layers of a U-Net.

`down_blocks.1.resnets.0.conv1` is `input_blocks.4.0.in_layers.2` there (github.com/CompVis/latent-diffusion,
`openaimodel.py`): blocks are numbered in the order in which they run, the residual block first, then its attention,
then a sampler.  Read from the module tree, so that it holds for pruned U-Nets and their other numbers of layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

_RESIDUAL = {"conv1": "in_layers.2", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
_CHECKPOINT_PREFIX = "model.diffusion_model."
"""What stands before a U-Net's layers in a checkpoint of the whole model."""


def ldm_names(unet: nn.Module, paths: Iterable[str]) -> dict[str, str]:
    """By module path, the original names of the layers in `paths`; those that have none are left out.

    Empty for a U-Net that is not built of blocks with `resnets` (Kandinsky 3), or has temporal layers between them that
    the original counts too (text-to-video).
    """
    blocks: list[Any] = [*unet.down_blocks, *unet.up_blocks]  # type: ignore[misc]
    if any(not hasattr(block, "resnets") or hasattr(block, "temp_convs") for block in blocks):
        return {}
    places = {"conv_in": "input_blocks.0.0", "conv_out": "out.2", **_down(unet), **_middle(unet), **_up(unet)}
    named = ((path, _name(path, places)) for path in paths)
    return {path: name for path, name in named if name is not None}


def plain_ldm_name(prefix: str) -> str:
    """An original name without what stands before it in checkpoints; any other string as it is."""
    return prefix.removeprefix(_CHECKPOINT_PREFIX)


def _name(path: str, places: dict[str, str]) -> str | None:
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        place = places.get(".".join(parts[:length]))
        if place is not None:
            rest = [part for part in parts[length:] if part != "spatial_res_block"]
            inner = ".".join(rest)
            inner = _RESIDUAL.get(inner, inner)
            if ".downsamplers." in path and inner == "conv":
                inner = "op"
            return f"{place}.{inner}" if inner else place
    return None


def _down(unet: Any) -> dict[str, str]:
    places: dict[str, str] = {}
    number = 1
    for level, block in enumerate(unet.down_blocks):
        places |= _layers(f"down_blocks.{level}", block, "input_blocks", number)
        number += len(block.resnets)
        if getattr(block, "downsamplers", None):
            places[f"down_blocks.{level}.downsamplers.0"] = f"input_blocks.{number}.0"
            number += 1
    return places


def _middle(unet: Any) -> dict[str, str]:
    block = getattr(unet, "mid_block", None)
    places = {}
    for layer in range(len(block.resnets) if block is not None else 0):
        places[f"mid_block.resnets.{layer}"] = f"middle_block.{2 * layer}"
        places[f"mid_block.attentions.{layer}"] = f"middle_block.{2 * layer + 1}"
    return places


def _up(unet: Any) -> dict[str, str]:
    places: dict[str, str] = {}
    number = 0
    for level, block in enumerate(unet.up_blocks):
        places |= _layers(f"up_blocks.{level}", block, "output_blocks", number)
        number += len(block.resnets)
        if getattr(block, "upsamplers", None):
            attends = bool(getattr(block, "attentions", None))
            places[f"up_blocks.{level}.upsamplers.0"] = f"output_blocks.{number - 1}.{2 if attends else 1}"
    return places


def _layers(path: str, block: Any, side: str, first: int) -> dict[str, str]:
    """The residual blocks and attentions of a block, whose numbers in the original begin with `first`."""
    parts = ("resnets", "attentions")
    return {
        f"{path}.{kind}.{layer}": f"{side}.{first + layer}.{place}"
        for layer in range(len(block.resnets))
        for place, kind in enumerate(parts)
    }
