"""Opening a model: the embedded one, a diffusers folder, a single .safetensors file, or a hub id.

Weights are read from safetensors.  A pickle is refused unless asked for, and then read with `weights_only=True`.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError
from ..unet.sizes import AUTOENCODERS, autoencoder_factor
from .components import check_folders, check_tokenizers, load_components, read_index
from .reasons import reason
from .single_file import cut_short, load_single_file
from .sources import locate

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
    config: str | os.PathLike[str] | None = None,
) -> Any:
    """A diffusers pipeline, ready to run.

    Args:
        model: "critters" (the embedded model), a folder in the diffusers layout (with a U-Net, or a transformer of a
            known family), a single-file checkpoint of Stable Diffusion 1, 2 or XL, or a hub id such as
            "stabilityai/stable-diffusion-xl-base-1.0".
        dtype: "fp32", "fp16", "bf16" or a torch dtype; by default float32, on CUDA float16, or bfloat16 for a
            transformer.
        device: "cpu", "cuda", "cuda:1", "mps" …; None and "auto" take the best one there is.
        allow_pickle: also read .ckpt and .bin files, with torch's weights-only reader, which runs no code of theirs.
        config: for a single file, which holds no configuration: a diffusers folder of the same kind of model, a folder
            with CLIP's vocabulary alone (the rest is read from the shapes of the tensors), or a hub id.  By default
            the hub is asked, or its cache.

    Returns:
        The pipeline of the class that the model names, on the device.  The embedded models, local folders and a single
        file with a `config` folder need no network.

    Raises:
        ModelError: for a name that is nothing, a folder without model_index.json, a pickle that was not asked for, or
            weights that cannot be read.
    """
    place = resolve_device(device)
    precision = resolve_dtype(dtype, place)
    kind, source = locate(model, config)
    with quiet():
        variant = None
        if kind == "hub":
            source, variant = _download(source, precision, allow_pickle)
        if dtype is None and place.type == "cuda" and kind != "file" and "transformer" in read_index(Path(source)):
            precision = torch.bfloat16  # which transformers are trained in; float16 overflows in many
        if kind != "file":
            pipe = _load_folder(Path(source), precision, allow_pickle, variant)
        else:
            pipe = load_single_file(Path(source), precision, allow_pickle, config)
        try:
            pipe.to(place)
        except torch.OutOfMemoryError:
            raise ModelError(
                f"{os.fspath(model)!r} does not fit in the memory of {place}: "
                "take the dtype fp16, or load it on the cpu and call pipe.enable_model_cpu_offload()"
            ) from None
    pipe.set_progress_bar_config(disable=True)
    return pipe


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
    try:
        usable = not torch.empty(1, device=place).is_meta
    except Exception:  # each backend has its own error for a device that is not there
        usable = False
    if not usable:
        raise ModelError(f"this torch cannot use the device {str(device)!r}: take auto or cpu")
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
    """The part of a pipeline that planning needs: shapes and schedule, no weights."""

    unet: Any
    """On the meta device; None where there is a transformer."""
    scheduler: Any
    vae_scale_factor: int
    vae: Any
    """On the meta device; None where the model has none."""
    transformer: Any = None
    """On the meta device; None where there is a U-Net."""
    pipeline_class: Any = None
    """Of diffusers; None where it is not known."""


def load_outline(model: str | os.PathLike[str], **options: Any) -> Any:
    """A model for planning: an `Outline` in moments where it is a folder, else the whole pipeline.

    `options` are those of `load_pipeline`.

    Raises:
        ModelError: as `load_pipeline`, or for a folder with neither a U-Net nor a transformer.
    """
    import diffusers

    kind, source = locate(model, options.get("config"))
    if kind != "folder":
        return load_pipeline(model, **options)
    folder = Path(source)
    index = read_index(folder)
    check_folders(folder, index)
    try:
        autoencoder = next((name for name in AUTOENCODERS if name in index), None)
        vae_config = _config(folder / autoencoder) if autoencoder else {"block_out_channels": [0]}
        factor = autoencoder_factor(vae_config)
        name = "transformer" if "transformer" in index and "unet" not in index else "unet"
        denoiser_class = getattr(diffusers, index[name][1])
        denoiser_config = _config(folder / name)
        with quiet(), torch.device("meta"):
            denoiser = denoiser_class.from_config(denoiser_config)
            vae = getattr(diffusers, index[autoencoder][1]).from_config(vae_config) if autoencoder else None
        with quiet():
            scheduler = getattr(diffusers, index["scheduler"][1]).from_pretrained(str(folder), subfolder="scheduler")
    except (OSError, KeyError, AttributeError, TypeError, ValueError) as error:
        if not any((folder / one).is_dir() for one in ("unet", "transformer")):
            raise ModelError(
                f"ScaleCrafter needs a U-Net or a diffusion transformer; the model in {source!r} has none"
            ) from None
        raise ModelError(f"cannot read the model in {source!r}: {reason(error)}") from error
    made_by = getattr(diffusers, str(index["_class_name"]), None)
    if name == "unet":
        return Outline(denoiser, scheduler, factor, vae, pipeline_class=made_by)
    return Outline(None, scheduler, factor, vae, denoiser, made_by)


def _config(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text("utf-8"))


def _load_folder(folder: Path, dtype: torch.dtype, allow_pickle: bool, variant: str | None = None) -> Any:
    from diffusers import DiffusionPipeline

    options = {
        "variant": variant or _variant(folder),
        "use_safetensors": None if allow_pickle else True,
        "local_files_only": True,
    }
    try:
        components = load_components(folder, dtype, **options)
        pipe = DiffusionPipeline.from_pretrained(str(folder), torch_dtype=dtype, **components, **options)
    except ModelError:
        raise
    except Exception as error:
        if not allow_pickle and not any(folder.rglob("*.safetensors")):
            raise ModelError(
                f"{str(folder)!r} holds no .safetensors weights. If you trust its .bin files, pass allow_pickle=True "
                "to load_pipeline, or --allow-pickle (they are read with weights_only=True)"
            ) from None
        damaged = next(filter(None, map(cut_short, sorted(folder.rglob("*.safetensors")))), None)
        if damaged:
            raise ModelError(f"cannot load the model in {str(folder)!r}: {damaged}") from None
        raise ModelError(f"cannot load the model in {str(folder)!r}: {reason(error)}") from error
    check_tokenizers(pipe)
    return pipe


def _variant(folder: Path) -> str | None:
    """ "fp16" where the folder's weights exist under that name only."""
    weights = [file.name for file in folder.glob("*/*.safetensors")]
    return "fp16" if weights and all(".fp16." in name for name in weights) else None


def _download(name: str, dtype: torch.dtype, allow_pickle: bool) -> tuple[str, str | None]:
    """(folder, variant of the weights) of a model of the hub."""
    from diffusers import DiffusionPipeline

    variants: tuple[str | None, ...] = ("fp16", None) if dtype is torch.float16 else (None,)
    problem: Exception | None = None
    for variant in variants:
        try:
            folder = DiffusionPipeline.download(name, variant=variant, use_safetensors=None if allow_pickle else True)
        except Exception as error:
            problem = error
        else:
            return str(folder), variant
    raise ModelError(
        f"cannot load {name!r}: there is no such folder here, and the hub answered: {reason(problem)}"
    ) from problem


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the loaders' own progress bars and messages."""
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
