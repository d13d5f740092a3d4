"""The components of a diffusers folder, loaded one by one: each must be there, and each weight be read from its file.

The loaders of diffusers and transformers fill a weight that a file lacks with random numbers, or leave it without
memory, and ignore one that they do not know.  They tell it (`output_loading_info`), and here it is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ModelError
from .embedded import weights_home

_HARMLESS = ("position_ids", "logit_scale", "text_projection.weight")
"""Ends of the names of weights that some files hold, and that the component does not need."""
_VOCABULARIES = (
    ("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",), ("tokenizer.model",), ("vocab.txt",),
    ("sentencepiece.bpe.model",),
)  # fmt: skip
"""Files of which a tokenizer needs one set."""
_SHOWN = 3


def read_index(folder: Path) -> dict[str, Any]:
    """What model_index.json says: `_class_name`, and of each component (library, class) (`ModelError`)."""
    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"cannot read model_index.json in {str(folder)!r} ({type(error).__name__}): fetch the model again"
        ) from None
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise ModelError(
            f"model_index.json in {str(folder)!r} names no pipeline class, so it is not that of a diffusers pipeline: "
            "give the folder that pipe.save_pretrained() wrote"
        )
    return index


def check_folders(folder: Path, index: Mapping[str, Any]) -> None:
    """Raise `ModelError` for a component that the index of a model names, and whose folder is not there."""
    for name in _named(index):
        if not (folder / name).is_dir():
            raise ModelError(
                f"the model in {str(folder)!r} lacks the folder {name!r}, which its model_index.json names: "
                "fetch the model again"
            )


def load_components(folder: Path, dtype: torch.dtype, **options: Any) -> dict[str, Any]:
    """The models of a diffusers folder by the names of its index, on the CPU.

    Args:
        folder: with model_index.json.
        dtype: of the weights.
        options: for each `from_pretrained`: `variant`, `use_safetensors`, `local_files_only`.

    Raises:
        ModelError: for a component that is not there, or weights that are missing, left over or of another shape.
    """
    from transformers import PreTrainedModel

    loaded = {}
    index = read_index(folder)
    check_folders(folder, index)
    for name, kind in _classes(index).items():
        if isinstance(kind, type) and issubclass(kind, nn.Module):
            is_transformers = issubclass(kind, PreTrainedModel)
            given = {"dtype": dtype, "ignore_mismatched_sizes": True} if is_transformers else {"torch_dtype": dtype}
            loader: Any = kind
            home, there = weights_home(folder, name)
            model, report = loader.from_pretrained(
                str(home), subfolder=there, output_loading_info=True, **given, **options
            )
            check_keys(f"the {name} of {str(folder)!r}", report)
            loaded[name] = model
        elif name.startswith("tokenizer"):
            _check_vocabulary(folder, name)
    return loaded


def check_tokenizers(pipe: Any) -> None:
    """Raise `ModelError` for a tokenizer with tokens that its text encoder does not know."""
    for name, tokenizer in pipe.components.items():
        encoder = getattr(pipe, name.replace("tokenizer", "text_encoder"), None)
        known = getattr(getattr(encoder, "config", None), "vocab_size", None)
        if name.startswith("tokenizer") and tokenizer is not None and known is not None and len(tokenizer) > known:
            raise ModelError(
                f"the {name} has {len(tokenizer)} tokens and its text encoder knows {known}: they are not of one "
                "model, so fetch it again"
            )


def check_keys(what: str, report: Mapping[str, Any]) -> None:
    """Raise `ModelError`, naming the weights, unless a loader's report says that all of them are there.

    Args:
        what: the component, as errors call it.
        report: what `from_pretrained(…, output_loading_info=True)` returned.
    """
    problems = [
        _names(report.get("missing_keys"), "missing"),
        _names(report.get("unexpected_keys"), "of another model"),
        _names(report.get("mismatched_keys"), "of another shape"),
    ]
    found = ", ".join(filter(None, problems))
    if found:
        raise ModelError(
            f"{what} is not whole: {found}. Fetch the model again, or the weights that belong to its config"
        )


def check_filled(what: str, model: nn.Module) -> None:
    """Raise `ModelError` for weights without memory: those that the file did not hold."""
    check_keys(what, {"missing_keys": [name for name, value in model.state_dict().items() if value.is_meta]})


def _names(keys: Iterable[Any] | None, how: str) -> str | None:
    names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys or ())
    names = [name for name in names if not name.endswith(_HARMLESS)]
    if not names:
        return None
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} weight{'s are' if len(names) > 1 else ' is'} {how} ({', '.join(names[:_SHOWN])}{more})"


def _classes(index: Mapping[str, Any]) -> dict[str, Any]:
    """Of each component its class, or None where it is none of diffusers' or transformers'."""
    return {name: _class(*entry) for name, entry in _named(index).items()}


def _named(index: Mapping[str, Any]) -> dict[str, list[str]]:
    """(library, class) of each component that is not left out."""
    entries = {name: entry for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    return {name: entry for name, entry in entries.items() if all(isinstance(part, str) for part in entry)}


def _class(library: str, name: str) -> Any:
    home = library if library in ("diffusers", "transformers") else f"diffusers.pipelines.{library}"
    try:
        found = getattr(import_module(home), name, None)
    except ImportError:
        return None
    return found if isinstance(found, type) and hasattr(found, "from_pretrained") else None


def _check_vocabulary(folder: Path, name: str) -> None:
    if not any(all((folder / name / file).is_file() for file in files) for files in _VOCABULARIES):
        raise ModelError(
            f"the {name} of {str(folder)!r} has no vocabulary (tokenizer.json, or vocab.json with merges.txt): "
            "fetch the model again"
        )
