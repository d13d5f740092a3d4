"""What a user calls a model, and what its folder says of it: without torch, and before any weights are read."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._util.text import near_names
from ..errors import ModelError
from ..unet.sizes import AUTOENCODERS, ModelSizes, autoencoder_factor, native_grid, pixel_factor
from .embedded import EMBEDDED_MODELS, embedded_folder

PICKLE_SUFFIXES = (".ckpt", ".bin", ".pt", ".pth")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class FolderFacts:
    """What the configuration files in a model's folder say."""

    sizes: ModelSizes
    channels: int
    """Of the maps that the denoiser takes."""
    latent_channels: int


def locate(model: str | os.PathLike[str], config: object = None) -> tuple[str, str]:
    """("folder" | "file" | "hub", where) for what a user calls a model.

    Args:
        model: as `load_pipeline` takes it.
        config: likewise.

    Raises:
        ModelError: for what is no model, and for a `config` beside a model that has its own.
    """
    kind, source = _locate(os.fspath(model))
    if config is not None and kind != "file":
        raise ModelError(f"config is for a single file: {os.fspath(model)!r} brings its own, so leave it out")
    return kind, source


def folder_facts(folder: Path) -> FolderFacts | None:
    """What the configuration of a diffusers folder says; None where it is of another kind, or cannot be read."""
    try:
        index = _json(folder / "model_index.json")
        if "transformer" in index and "unet" not in index:
            return _transformer_facts(folder)
        unet = _json(folder / "unet" / "config.json")
        autoencoder = _json(folder / next(name for name in AUTOENCODERS if name in index) / "config.json")
        native = native_grid(unet)
        sizes = ModelSizes(
            native_height=native.height,
            native_width=native.width,
            levels=len(unet["down_block_types"]),
            pixel_factor=pixel_factor(autoencoder["block_out_channels"]),
        )
        return FolderFacts(sizes, int(unet["in_channels"]), int(autoencoder["latent_channels"]))
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None


_MEGAPIXEL = 1024
"""The side that transformers are trained at whose configuration says none."""


def _transformer_facts(folder: Path) -> FolderFacts:
    transformer, autoencoder = (_json(folder / name / "config.json") for name in ("transformer", "vae"))
    latents = int(autoencoder.get("latent_channels") or autoencoder["z_dim"])
    channels, factor = int(transformer["in_channels"]), autoencoder_factor(autoencoder)
    packed = channels % 4 == 0 and channels // 4 == latents
    patch = transformer.get("patch_size") or transformer.get("all_patch_size") or 1
    side = 2 if packed else int(patch if isinstance(patch, int) else patch[0])
    native = transformer.get("sample_size") or _MEGAPIXEL // factor
    sizes = ModelSizes(
        native_height=native // side * side,
        native_width=native // side * side,
        levels=side.bit_length(),
        pixel_factor=factor,
    )
    return FolderFacts(sizes, channels // 4 if packed else channels, latents)


def _locate(name: str) -> tuple[str, str]:
    if name in EMBEDDED_MODELS:
        return "folder", str(embedded_folder(name))
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ModelError(
                f"the folder {name!r} has no model_index.json, so it is not a diffusers pipeline: "
                "give the folder that pipe.save_pretrained() wrote, or a single .safetensors file"
            )
        return "folder", str(path)
    if path.is_file():
        return "file", str(path)
    looks_like_path = name.startswith((".", "/", "~")) or path.suffix in (".safetensors", *PICKLE_SUFFIXES)
    if not looks_like_path and HUB_ID.fullmatch(name):
        return "hub", name
    hint = "" if looks_like_path else near_names(name, EMBEDDED_MODELS, most=1, cutoff=0.5)
    raise ModelError(
        f"there is no model {name!r}{f': {hint}' if hint else '.'} "
        f"Give an embedded model ({', '.join(EMBEDDED_MODELS)}), an existing folder or .safetensors file, "
        "or a hub id (owner/name)"
    )


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))
