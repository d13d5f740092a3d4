"""A saved model that transformers 4 reads too.

transformers 5 names a CLIP text encoder's weights without `text_model.` and writes the tokenizer as one file. It reads
the older form as well; transformers 4 does not read the newer one, and fills the text encoder with random numbers.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

_PREFIX = "text_model."


def make_readable(folder: Path) -> None:
    """Rewrite the text encoders of a diffusers folder and add to its tokenizers, in place."""
    for weights in folder.glob("text_encoder*/model.safetensors"):
        _name_weights(weights)
    for tokenizer in folder.glob("tokenizer*"):
        _write_vocabulary(tokenizer)


def _name_weights(path: Path) -> None:
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    named = {name if name.startswith(_PREFIX) else _PREFIX + name: value for name, value in weights.items()}
    save_file(named, path, metadata)


def _write_vocabulary(folder: Path) -> None:
    model = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False, indent=0) + "\n", "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
