"""ScaleCrafter: pictures at 4× to 16× the pixels a diffusion model was trained for, with no training.

He et al., ICLR 2024, arXiv 2310.07702.  ``scalecrafter.apply(pipe)`` and call the pipeline as before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import Cancelled, ModelError, NumericalError, RecipeError, ScaleCrafterError, SizeError

if TYPE_CHECKING:
    from .callbacks import ProgressCallback
    from .dispersion import dispersion_transform
    from .guider import NoiseDampedGuidance
    from .loading import load_pipeline
    from .patch import applied, apply, remove
    from .planning import Plan
    from .plans import plan
    from .recipe import Recipe

__version__ = "0.1.0"

__all__ = [
    "Cancelled",
    "ModelError",
    "NoiseDampedGuidance",
    "NumericalError",
    "Plan",
    "ProgressCallback",
    "Recipe",
    "RecipeError",
    "ScaleCrafterError",
    "SizeError",
    "__version__",
    "applied",
    "apply",
    "dispersion_transform",
    "load_pipeline",
    "plan",
    "remove",
]

_HOMES = {
    "NoiseDampedGuidance": "guider",
    "Plan": "planning",
    "ProgressCallback": "callbacks",
    "Recipe": "recipe",
    "applied": "patch",
    "apply": "patch",
    "dispersion_transform": "dispersion",
    "load_pipeline": "loading",
    "plan": "plans",
    "remove": "patch",
}
"""Where the names live that need torch: imported at first use, so that `scalecrafter --help` need not wait."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
