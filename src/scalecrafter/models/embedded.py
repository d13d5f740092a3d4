"""The models that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ..errors import ModelError

_HERE = Path(str(resources.files(__package__)))
_TRANSFORMER = "critters-dit"
EMBEDDED_MODELS = ("critters", *([_TRANSFORMER] if (_HERE / _TRANSFORMER / "model_index.json").is_file() else []))
NOT_YET = (
    {}
    if _TRANSFORMER in EMBEDDED_MODELS
    else {
        _TRANSFORMER: "its weights are not part of this version: in a checkout, train it with "
        "`python -m training.critters.train --architecture dit`, and give the folder that this writes"
    }
)
"""Names that will mean embedded models, and why they do not."""


def embedded_folder(name: str) -> Path:
    """Where the embedded model lies in this installation (`ModelError` if it does not)."""
    folder = _HERE / name
    if not (folder / "model_index.json").is_file():
        raise ModelError(f"this installation lacks the embedded model {name!r} (looked in {folder}): install it again")
    return folder
