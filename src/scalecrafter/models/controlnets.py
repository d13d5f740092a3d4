"""Opening ControlNets: a diffusers folder, a single .safetensors file, or a hub id.

A ControlNet runs undilated, as it was trained: it reads the control image, and its output is added to the U-Net at
the U-Net's own resolutions.
"""

from __future__ import annotations

import json
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError
from .components import check_filled, check_keys
from .loading import quiet
from .reasons import reason
from .sources import HUB_ID, PICKLE_SUFFIXES

_KNOWN = "ControlNetModel"
_OF_THE_UNET = ("block_out_channels", "cross_attention_dim")
"""What a ControlNet's configuration has in common with the U-Net that it is for."""
_LAST: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()
"""Of each pipeline, the ControlNets of its last picture, so that the next one need not load them again."""


def controlnets_for(pipe: Any, models: Sequence[str]) -> list[Any]:
    """The ControlNets of these names, on the pipeline's device and in its U-Net's dtype.

    Raises:
        ModelError: for what is no ControlNet, or one that is made for another kind of U-Net.
    """
    device, dtype = pipe._execution_device, pipe.unet.dtype
    before = _LAST.get(pipe, {})
    kept: dict[Any, Any] = {}
    for model in models:
        key = (model, str(device), dtype)
        if key not in kept:
            kept[key] = before[key] if key in before else load_controlnet(model, pipe.unet, dtype).to(device)
    _LAST[pipe] = kept
    return [kept[model, str(device), dtype] for model in models]


def load_controlnet(model: str, unet: Any, dtype: torch.dtype) -> Any:
    """A ControlNet for a U-Net, on the CPU.

    Args:
        model: a folder with config.json and safetensors weights, a single .safetensors file (of diffusers' layout or of
            the original one), or a hub id.
        unet: that it is for; a single file says nothing of its architecture, which is that of the U-Net's first half.
        dtype: of the weights.

    Raises:
        ModelError: for what is no ControlNet, or one that is made for another kind of U-Net.
    """
    from diffusers import ControlNetModel

    path = Path(model).expanduser()
    is_here = _is_here(model, path)
    try:
        with quiet():
            if path.is_file():
                controlnet = _from_file(path, unet, dtype)
            else:
                source = str(path) if is_here else model
                _check_class(model, ControlNetModel.load_config(source, local_files_only=is_here))
                controlnet, report = ControlNetModel.from_pretrained(
                    source, torch_dtype=dtype, use_safetensors=True, local_files_only=is_here, output_loading_info=True
                )
                check_keys(f"the ControlNet {model!r}", report)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"cannot load the ControlNet {model!r}: {reason(error)}") from error
    check_filled(f"the ControlNet {model!r}", controlnet)
    _check_fits(model, controlnet, unet)
    return controlnet.requires_grad_(False).eval()


def controlnet_outline(model: str, unet: Any) -> Any:
    """A ControlNet on the meta device, for what it costs: by its configuration, where that is on this machine.

    Else it is the usual kind, a copy of the U-Net's first half.

    Args:
        model: as `load_controlnet` takes it.
        unet: that it is for, on the meta device too.

    Raises:
        ModelError: for what is no ControlNet, or one that is made for another kind of U-Net.
    """
    from diffusers import ControlNetModel

    path, config = Path(model).expanduser(), _first_half(unet)
    is_here = _is_here(model, path)
    if not path.is_file():
        try:
            config = ControlNetModel.load_config(str(path) if is_here else model, local_files_only=True)
        except (OSError, ValueError) as error:
            if is_here:
                raise ModelError(f"cannot load the ControlNet {model!r}: {reason(error)}") from error
        else:
            _check_class(model, config)
    with quiet(), torch.device("meta"):
        controlnet = ControlNetModel.from_config(config)
    _check_fits(model, controlnet, unet)
    return controlnet.requires_grad_(False).eval()


def _is_here(model: str, path: Path) -> bool:
    """Whether a name is that of a folder or file, and not a hub id (`ModelError` for what is neither)."""
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(f"the folder {model!r} has no config.json: give the one that a ControlNet was saved to")
    if path.exists():
        return True
    if model.startswith((".", "/", "~")) or path.suffix == ".safetensors" or not HUB_ID.fullmatch(model):
        raise ModelError(
            f"there is no ControlNet {model!r}: give an existing folder or .safetensors file, or a hub id (owner/name)"
        )
    return False


def _from_file(path: Path, unet: Any, dtype: torch.dtype) -> Any:
    from diffusers import ControlNetModel

    if path.suffix in PICKLE_SUFFIXES:
        raise ModelError(
            f"{str(path)!r} is a pickle, which can run code when it is opened: take the ControlNet as .safetensors"
        )
    with tempfile.TemporaryDirectory() as folder:
        settings = _first_half(unet)
        (Path(folder) / "config.json").write_text(json.dumps({"_class_name": _KNOWN, **settings}), "utf-8")
        return ControlNetModel.from_single_file(str(path), config=folder, torch_dtype=dtype, local_files_only=True)


def _first_half(unet: Any) -> dict[str, Any]:
    """The configuration of a ControlNet that is a copy of a U-Net's first half, as the usual ones are."""
    from diffusers import ControlNetModel

    with torch.device("meta"):
        config = dict(ControlNetModel.from_unet(unet, load_weights_from_unet=False).config)
    config["in_channels"] = unet.config.out_channels  # of an inpainting U-Net too, it is the latents alone
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _check_class(model: str, config: Any) -> None:
    found = config.get("_class_name")
    if found != _KNOWN:
        raise ModelError(f"{model!r} holds a model of the class {found}, and a control needs a {_KNOWN}")


def _check_fits(model: str, controlnet: Any, unet: Any) -> None:
    for name in _OF_THE_UNET:
        ours, its = (config.get(name) for config in (unet.config, controlnet.config))
        if _comparable(ours) != _comparable(its):
            raise ModelError(
                f"the ControlNet {model!r} is made for another kind of model: its {name} is {its}, "
                f"this model's {ours}. Take one for this model's family"
            )


def _comparable(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
