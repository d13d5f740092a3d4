"""ScaleCrafter: pictures at 4× to 16× the pixels a diffusion model was trained for, with no training.

He et al., ICLR 2024, arXiv 2310.07702.  ``scalecrafter.apply(pipe)`` and call the pipeline as before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import Cancelled, ModelError, NumericalError, RecipeError, ScaleCrafterError, SizeError

if TYPE_CHECKING:
    from .generation.enlarge import enlarge
    from .generation.generate import Result, generate, generate_many
    from .methods.steps.callbacks import ProgressCallback
    from .models.loading import load_pipeline
    from .ops.dispersion import dispersion_transform
    from .patching.apply import applied, apply, remove
    from .patching.guider import NoiseDampedGuidance
    from .patching.plan import plan
    from .recipes.plan import Plan
    from .recipes.recipe import Recipe
    from .request.request import Request


__all__ = [
    "Cancelled",
    "ModelError",
    "NoiseDampedGuidance",
    "NumericalError",
    "Plan",
    "ProgressCallback",
    "Recipe",
    "RecipeError",
    "Request",
    "Result",
    "ScaleCrafterError",
    "SizeError",
    "__version__",
    "applied",
    "apply",
    "dispersion_transform",
    "enlarge",
    "generate",
    "generate_many",
    "load_pipeline",
    "plan",
    "remove",
]

_HOMES = {
    "NoiseDampedGuidance": "patching.guider",
    "Plan": "recipes.plan",
    "ProgressCallback": "methods.steps.callbacks",
    "Recipe": "recipes.recipe",
    "Request": "request.request",
    "Result": "generation.generate",
    "applied": "patching.apply",
    "apply": "patching.apply",
    "dispersion_transform": "ops.dispersion",
    "enlarge": "generation.enlarge",
    "generate": "generation.generate",
    "generate_many": "generation.generate",
    "load_pipeline": "models.loading",
    "plan": "patching.plan",
    "remove": "patching.apply",
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
