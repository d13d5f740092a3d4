"""One call of a U-Net: which pipeline makes it, and what one thread knows about its calls.

A U-Net may belong to several pipelines (`from_pipe`, SDXL's base and refiner), and several threads may call it.  So
scheduler and guidance are those of the pipeline that calls, and nothing about a call is shared between threads.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from torch import Tensor

from ..recipes.resolution import LayerChanges, ResolvedRecipe
from ..unet.trajectory import Trajectory
from .damping import Branches
from .feature_caches import DeepCacheFeatures


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
