"""One call of a U-Net: which pipeline makes it, and what one thread knows about its calls.

A U-Net may belong to several pipelines (`from_pipe`, SDXL's base and refiner), and several threads may call it.  So
scheduler and guidance are those of the pipeline that calls, and nothing about a call is shared between threads.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from ..recipes.resolution import LayerChanges, ResolvedRecipe
from ..unet.trajectory import Trajectory
from .damping import Branches
from .feature_caches import DeepCacheFeatures


def calling_pipeline(unet: nn.Module) -> Any:
    """The pipeline whose method called `unet`, found on the stack; None for a loop outside of any pipeline."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_argcount and code.co_varnames[0] == "self" and runs(owner := frame.f_locals.get("self"), unet):
            return owner
        frame = frame.f_back  # type: ignore[assignment]
    return None


def runs(pipe: Any, unet: nn.Module) -> bool:
    """Whether an object is a pipeline with this U-Net."""
    own = {} if isinstance(pipe, nn.Module) else getattr(pipe, "__dict__", {})
    return "scheduler" in own and is_unet(own.get("unet"), unet)


def is_unet(module: Any, unet: nn.Module) -> bool:
    """Whether a module is this U-Net, or a wrapper around it (of torch.compile or DistributedDataParallel)."""
    while module is not None and module is not unet:
        module = getattr(module, "_orig_mod", None) or getattr(module, "module", None)
    return module is unet


def _nobody() -> None:
    """In the place of a reference to a pipeline."""


class UNetCalls(threading.local):
    """What one thread knows about its current call of a U-Net, and about the call before."""

    def __init__(self) -> None:
        self.trajectory = Trajectory()
        self.features = DeepCacheFeatures()
        self.last_place = Fraction(0)
        self.pipe: Callable[[], Any] = _nobody
        """The pipeline that calls, held weakly."""
        self.timestep: Any = None
        self.resolved: ResolvedRecipe | None = None
        self.strong: LayerChanges | None = None
        """LayerChanges of the strong denoiser, where this call is damped."""
        self.branches: Branches | None = None
        self.arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self.in_strong_denoiser = False
        self.unconditional = False
        """Whether the next call is the unconditional branch alone; the guider of a modular pipeline sets it."""
        self.strong_prediction: Tensor | None = None
        """The strong denoiser's prediction of that branch, which the guider fetches."""

    def begin(self, pipe: Any) -> None:
        """A call by this pipeline, or by none, begins."""
        self.pipe = _nobody if pipe is None else weakref.ref(pipe)

    def __deepcopy__(self, memo: dict[int, Any]) -> UNetCalls:
        """A copied U-Net has had no calls."""
        return UNetCalls()
