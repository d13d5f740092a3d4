"""Opening a model: the embedded one, a diffusers folder, a single .safetensors file, or a hub id.

Knows nothing of recipes or requests.  Weights are read from safetensors; a pickle is refused unless asked for, and
then read with `weights_only=True` alone.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from .errors import ModelError

EMBEDDED_MODELS = ("critters",)
PICKLE_SUFFIXES = (".ckpt", ".bin", ".pt", ".pth")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_DTYPES = {
    "fp32": torch.float32, "float32": torch.float32,
    "fp16": torch.float16, "float16": torch.float16,
    "bf16": torch.bfloat16, "bfloat16": torch.bfloat16,
}  # fmt: skip


def load_pipeline(
    model: str | os.PathLike[str] = "critters",
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    allow_pickle: bool = False,
) -> Any:
    """A diffusers pipeline, ready to run.

    Args:
        model: "critters" (the embedded model), a folder in the diffusers layout, a single-file checkpoint of Stable
            Diffusion 1, 2 or XL, or a hub id such as "stabilityai/stable-diffusion-xl-base-1.0".
        dtype: "fp32", "fp16", "bf16" or a torch dtype; float16 on CUDA and float32 elsewhere by default.
        device: "cpu", "cuda", "cuda:1", "mps" …; None and "auto" take the best one there is.
        allow_pickle: also read .ckpt and .bin files, with torch's weights-only reader, which runs no code of theirs.

    Returns:
        The pipeline of the class that the model names, on the device.  The embedded model and local folders need no
        network; a single file needs the small configuration files of its family in the hub cache.

    Raises:
        ModelError: for a name that is nothing, a folder without model_index.json, a pickle that was not asked for, or
            weights that cannot be read.
    """
    place = resolve_device(device)
    precision = resolve_dtype(dtype, place)
    kind, source = locate(model)
    with quiet():
        if kind == "folder":
            pipe = _load_folder(Path(source), precision, allow_pickle)
        elif kind == "file":
            pipe = _load_file(Path(source), precision, allow_pickle)
        else:
            pipe = _load_hub(source, precision, allow_pickle)
        try:
            pipe.to(place)
        except torch.OutOfMemoryError:
            raise ModelError(
                f"{os.fspath(model)!r} does not fit in the memory of {place}: "
                "take the dtype fp16, or load it on the cpu and call pipe.enable_model_cpu_offload()"
            ) from None
    pipe.set_progress_bar_config(disable=True)
    return pipe


def locate(model: str | os.PathLike[str]) -> tuple[str, str]:
    """("folder" | "file" | "hub", where) for what a user calls a model (`ModelError`)."""
    name = os.fspath(model)
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
    near = difflib.get_close_matches(name, EMBEDDED_MODELS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near and not looks_like_path else ""
    raise ModelError(
        f"there is no model {name!r}: {hint}"
        f"Give an embedded model ({', '.join(EMBEDDED_MODELS)}), an existing folder or .safetensors file, "
        "or a hub id (owner/name)"
    )


def embedded_folder(name: str) -> Path:
    """Where the embedded model lies in this installation (`ModelError` if it does not)."""
    folder = Path(str(resources.files(__package__))) / "models" / name
    if not (folder / "model_index.json").is_file():
        raise ModelError(f"this installation lacks the embedded model {name!r} (looked in {folder}): install it again")
    return folder


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The device that is meant; "auto" and None are CUDA, else Apple's GPU, else the CPU (`ModelError`)."""
    if device is None or device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError:
        raise ModelError(f"there is no device {device!r}: take auto, cpu, cuda, cuda:1 or mps") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "this torch sees no CUDA device: take the device cpu or auto (`scalecrafter doctor` tells more)"
        )
    if place.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError("this torch sees no Apple GPU: take the device cpu or auto")
    return place


def resolve_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The dtype that is meant; None is float16 on CUDA and float32 elsewhere (`ModelError`)."""
    if dtype is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    found = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found is None or found not in _DTYPES.values():
        raise ModelError(f"{dtype!r} is not a dtype for weights: take fp32, fp16 or bf16")
    return found


@dataclass(frozen=True)
class Outline:
    """As much of a pipeline as planning needs: shapes and schedule, no weights."""

    unet: Any
    """On the meta device."""
    scheduler: Any
    vae_scale_factor: int
    vae_channels: tuple[int, ...]


def load_outline(model: str | os.PathLike[str]) -> Any:
    """A model for planning: an `Outline` in moments where it is a folder, else the whole pipeline.

    Raises:
        ModelError: as `load_pipeline`, or for a folder without a U-Net.
    """
    import diffusers

    kind, source = locate(model)
    if kind != "folder":
        return load_pipeline(model)
    folder = Path(source)
    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        vae = json.loads((folder / "vae" / "config.json").read_text("utf-8"))
        unet_class = getattr(diffusers, index["unet"][1])
        unet_config = json.loads((folder / "unet" / "config.json").read_text("utf-8"))
        with quiet(), torch.device("meta"):
            unet = unet_class.from_config(unet_config)
        with quiet():
            scheduler = getattr(diffusers, index["scheduler"][1]).from_pretrained(str(folder), subfolder="scheduler")
    except (OSError, KeyError, AttributeError, ValueError) as error:
        if not (folder / "unet").is_dir():
            raise ModelError(f"ScaleCrafter needs a convolutional U-Net; the model in {source!r} has none") from None
        raise ModelError(f"cannot read the model in {source!r}: {_first_line(error)}") from error
    channels = tuple(vae["block_out_channels"])
    return Outline(unet, scheduler, int(2 ** (len(channels) - 1)), channels)


def _load_folder(folder: Path, dtype: torch.dtype, allow_pickle: bool) -> Any:
    from diffusers import DiffusionPipeline

    try:
        return DiffusionPipeline.from_pretrained(
            str(folder),
            torch_dtype=dtype,
            variant=_variant(folder),
            use_safetensors=None if allow_pickle else True,
            local_files_only=True,
        )
    except Exception as error:
        if not allow_pickle and not any(folder.rglob("*.safetensors")):
            raise ModelError(
                f"{str(folder)!r} holds no .safetensors weights. If you trust its .bin files, pass allow_pickle=True "
                "to load_pipeline (they are read with weights_only=True)"
            ) from None
        raise ModelError(f"cannot load the model in {str(folder)!r}: {_first_line(error)}") from error


def _variant(folder: Path) -> str | None:
    """ "fp16" where the folder's weights exist under that name only."""
    weights = [file.name for file in folder.glob("*/*.safetensors")]
    return "fp16" if weights and all(".fp16." in name for name in weights) else None


def _load_file(path: Path, dtype: torch.dtype, allow_pickle: bool) -> Any:
    import diffusers

    names = _tensor_names(path, allow_pickle)
    if not any(name.startswith("model.diffusion_model.") for name in names):
        what = "a LoRA" if any("lora_" in name for name in names) else "weights of another layout"
        raise ModelError(
            f"{str(path)!r} is not a whole Stable Diffusion checkpoint but {what}: "
            "give a checkpoint with U-Net, VAE and text encoder in one file, or a diffusers folder"
        )
    is_xl = any(name.startswith("conditioner.embedders.1.") for name in names)
    pipeline = diffusers.StableDiffusionXLPipeline if is_xl else diffusers.StableDiffusionPipeline
    try:
        return pipeline.from_single_file(str(path), torch_dtype=dtype)
    except Exception as error:
        raise ModelError(
            f"cannot load {str(path)!r}: {_first_line(error)} (a single file needs the configuration and tokenizer of "
            "its family from the hub, once; a diffusers folder needs no network)"
        ) from error


def _tensor_names(path: Path, allow_pickle: bool) -> set[str]:
    """Names of the tensors in a checkpoint, without reading them into memory."""
    if path.suffix in PICKLE_SUFFIXES:
        if not allow_pickle:
            raise ModelError(
                f"{str(path)!r} is a pickle, which can run code when it is opened: take a .safetensors file, or pass "
                "allow_pickle=True to load_pipeline if you trust it (it is read with weights_only=True)"
            )
        try:
            content = torch.load(path, map_location="meta", weights_only=True)
        except Exception as error:
            raise ModelError(
                f"{str(path)!r} cannot be read as weights only: {_first_line(error)}. "
                "It holds more than tensors, and is not opened in any other way"
            ) from None
        content = content.get("state_dict", content) if isinstance(content, dict) else {}
        return {str(name) for name in content}
    if path.suffix != ".safetensors":
        raise ModelError(f"{str(path)!r} is no model: give a .safetensors file, or a diffusers folder")
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return set(file.keys())
    except Exception as error:
        raise ModelError(f"{str(path)!r} is not a safetensors file, or is cut short: {_first_line(error)}") from None


def _load_hub(name: str, dtype: torch.dtype, allow_pickle: bool) -> Any:
    from diffusers import DiffusionPipeline

    variants: tuple[str | None, ...] = ("fp16", None) if dtype is torch.float16 else (None,)
    problem: Exception | None = None
    for variant in variants:
        try:
            return DiffusionPipeline.from_pretrained(
                name, torch_dtype=dtype, variant=variant, use_safetensors=None if allow_pickle else True
            )
        except Exception as error:
            problem = error
    raise ModelError(
        f"cannot load {name!r}: there is no such folder here, and the hub answered: {_first_line(problem)}"
    ) from problem


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the loaders' own progress bars and notes off the terminal."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    states = []
    for logging in (diffusers_logging, transformers_logging):
        states.append((logging, logging.is_progress_bar_enabled(), logging.get_verbosity()))
        logging.disable_progress_bar()
        logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # diffusers before 0.38 does not know the name that later ones ask for
            warnings.filterwarnings("ignore", message=".*torch_dtype", category=FutureWarning)
            yield
    finally:
        for logging, bar, verbosity in states:
            logging.set_verbosity(verbosity)
            if bar:
                logging.enable_progress_bar()
