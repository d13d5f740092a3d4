"""ScaleCrafter: pictures at 4× to 16× the pixels a diffusion model was trained for, with no training.

He et al., ICLR 2024, arXiv 2310.07702.  ``scalecrafter.apply(pipe)`` and call the pipeline as before.
"""

from .dispersion import dispersion_transform
from .errors import ModelError, NumericalError, RecipeError, ScaleCrafterError, SizeError
from .loading import load_pipeline
from .patch import apply, applied, remove
from .plans import plan
from .planning import Plan
from .recipe import Recipe

__version__ = "0.1.0"

__all__ = [
    "ModelError",
    "NumericalError",
    "Plan",
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
