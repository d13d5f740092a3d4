"""The models that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ..errors import ModelError

_HERE = Path(str(resources.files(__package__)))
EMBEDDED_MODELS = ("critters", "critters-dit")
_SHARED = {
    ("critters-dit", "vae"): ("critters", "vae"),
    ("critters-dit", "text_encoder_2"): ("critters-dit", "text_encoder"),
}
"""Components of embedded models whose weights are those of others, to the bit, and lie there only."""


def embedded_folder(name: str) -> Path:
    """Where the embedded model lies in this installation (`ModelError` if it does not)."""
    folder = _HERE / name
    if not (folder / "model_index.json").is_file():
        raise ModelError(f"this installation lacks the embedded model {name!r} (looked in {folder}): install it again")
    return folder


def weights_home(folder: Path, component: str) -> tuple[Path, str]:
    """(folder of a model, component in it) where the weights of this component of this folder lie."""
    if folder.resolve().parent == _HERE.resolve() and (folder.name, component) in _SHARED:
        model, name = _SHARED[folder.name, component]
        return folder.parent / model, name
    return folder, component
