"""The models that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ..errors import ModelError

EMBEDDED_MODELS = ("critters",)


def embedded_folder(name: str) -> Path:
    """Where the embedded model lies in this installation (`ModelError` if it does not)."""
    folder = Path(str(resources.files(__package__))) / name
    if not (folder / "model_index.json").is_file():
        raise ModelError(f"this installation lacks the embedded model {name!r} (looked in {folder}): install it again")
    return folder
