"""Opening a checkpoint that is one file: Stable Diffusion 1, 2 or XL in the original layout.

Such a file holds weights alone.  The configuration comes from a folder that the caller names, from the hub or its
cache, or from the shapes of the tensors (`checkpoint_config`); the tokenizer's vocabulary is in none of them but the
first two.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError
from .checkpoint_config import UNET, Shapes, write_configuration
from .components import check_filled, check_tokenizers
from .reasons import reason
from .sources import HUB_ID, PICKLE_SUFFIXES

_VOCABULARY = "openai/clip-vit-large-patch14"
"""The hub's folder with the vocabulary that all three families share."""
_WHERE_FROM = (
    "name a folder with its configuration (config=…, --config): that of any diffusers model of its kind, "
    "or just CLIP's vocabulary (vocab.json and merges.txt, or tokenizer.json), which is the same for all of them"
)


def load_single_file(
    path: Path, dtype: torch.dtype, allow_pickle: bool, config: str | os.PathLike[str] | None = None
) -> Any:
    """The pipeline of a checkpoint, on the CPU.

    Args:
        path: the file.
        dtype: of the weights.
        allow_pickle: also read .ckpt and its like, with torch's weights-only reader.
        config: a diffusers folder, a folder with a vocabulary, or a hub id; None tries the hub and its cache.

    Raises:
        ModelError: for a file that is no whole checkpoint, is cut short, or is a pickle that was not asked for; for a
            folder that holds no configuration; where a configuration is needed and not to be had.
    """
    shapes = tensor_shapes(path, allow_pickle)
    if not any(name.startswith(UNET) for name in shapes):
        what = "a LoRA" if any("lora_" in name for name in shapes) else "weights of another layout"
        raise ModelError(
            f"{str(path)!r} is not a whole Stable Diffusion checkpoint but {what}: "
            "give a checkpoint with U-Net, VAE and text encoder in one file, or a diffusers folder"
        )
    try:
        if config is None:
            return _with_whatever_there_is(path, shapes, dtype)
        folder = Path(config).expanduser()
        if (folder / "model_index.json").is_file():
            return _read(path, shapes, dtype, str(folder), local=True)
        vocabulary = _vocabulary_in(folder)
        if vocabulary is not None:
            return _with_configuration_from_shapes(path, shapes, dtype, vocabulary)
        if not folder.exists() and HUB_ID.fullmatch(str(config)):
            return _read(path, shapes, dtype, str(config), local=False)
        missing = "holds neither model_index.json nor a vocabulary" if folder.is_dir() else "is no folder"
        raise ModelError(f"{os.fspath(config)!r} {missing}: {_WHERE_FROM}")
    except ModelError as error:
        raise ModelError(f"cannot load {str(path)!r}: {error}") from error
    except Exception as error:
        raise ModelError(f"cannot load {str(path)!r}: {reason(error)} ({_WHERE_FROM})") from error


def tensor_shapes(path: Path, allow_pickle: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a checkpoint, without reading them into memory (`ModelError`)."""
    if path.suffix in PICKLE_SUFFIXES:
        return _shapes_in_pickle(path, allow_pickle)
    if path.suffix != ".safetensors":
        raise ModelError(f"{str(path)!r} is no model: give a .safetensors file, or a diffusers folder")
    from safetensors import safe_open

    short = cut_short(path)
    if short:
        raise ModelError(short)
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise ModelError(f"{str(path)!r} is not a safetensors file, or is damaged: {reason(error)}") from None


def cut_short(path: Path) -> str | None:
    """That a safetensors file is shorter than its own header says, in words; None where it is whole."""
    size = path.stat().st_size
    problem = f"{str(path)!r} is not a safetensors file, or is cut short"
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 + length:
            return f"{problem}: it has {size} bytes and its header alone should have {8 + length}: fetch it again"
        try:
            header = json.loads(file.read(length))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, TypeError, KeyError, AttributeError):
            return f"{problem}: its header cannot be read"
    whole = 8 + length + int(end)
    return f"{problem}: it has {size} of {whole} bytes: fetch it again" if size < whole else None


def _shapes_in_pickle(path: Path, allow_pickle: bool) -> dict[str, tuple[int, ...]]:
    if not allow_pickle:
        raise ModelError(
            f"{str(path)!r} is a pickle, which can run code when it is opened: take a .safetensors file, or pass "
            "allow_pickle=True to load_pipeline (--allow-pickle) if you trust it (it is read with weights_only=True)"
        )
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"{str(path)!r} cannot be read as weights only: {reason(error)}. Take the model as .safetensors"
        ) from None
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    return {str(name): tuple(value.shape) for name, value in content.items() if isinstance(value, torch.Tensor)}


def _read(path: Path, shapes: Shapes, dtype: torch.dtype, config: str | None, local: bool) -> Any:
    import diffusers

    is_xl = any(name.startswith("conditioner.embedders.1.") for name in shapes)
    pipeline = diffusers.StableDiffusionXLPipeline if is_xl else diffusers.StableDiffusionPipeline
    pipe = pipeline.from_single_file(str(path), torch_dtype=dtype, config=config, local_files_only=local)
    for name, component in pipe.components.items():
        if isinstance(component, torch.nn.Module):
            check_filled(f"the {name}", component)
    check_tokenizers(pipe)
    return pipe


def _with_whatever_there_is(path: Path, shapes: Shapes, dtype: torch.dtype) -> Any:
    """The family's configuration from the hub or its cache; failing that, a vocabulary in the cache will do."""
    try:
        return _read(path, shapes, dtype, None, local=False)
    except Exception as error:
        vocabulary = _cached_vocabulary()
        if vocabulary is None:
            raise ModelError(f"{reason(error)} ({_WHERE_FROM})") from error
        return _with_configuration_from_shapes(path, shapes, dtype, vocabulary)


def _with_configuration_from_shapes(path: Path, shapes: Shapes, dtype: torch.dtype, vocabulary: Path) -> Any:
    with tempfile.TemporaryDirectory(prefix="scalecrafter-") as folder:
        write_configuration(shapes, vocabulary, Path(folder))
        return _read(path, shapes, dtype, folder, local=True)


def _vocabulary_in(folder: Path) -> Path | None:
    for place in (folder, folder / "tokenizer"):
        if (place / "tokenizer.json").is_file() or (place / "vocab.json").is_file():
            return place
    return None


def _cached_vocabulary() -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for name in ("tokenizer.json", "vocab.json"):
        found = try_to_load_from_cache(_VOCABULARY, name)
        if isinstance(found, str):
            return Path(found).parent
    return None
