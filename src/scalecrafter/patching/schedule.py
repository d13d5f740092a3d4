"""The shift of a flow-matching schedule, which pipelines extrapolate from the number of image tokens.

A pipeline computes mu and hands it to its scheduler's `set_timesteps`; what stands in its place hands on another.
"""

from __future__ import annotations

import inspect
import sys
from math import exp
from typing import Any

from ..errors import ModelError, RecipeError
from ..recipes.transformer_sections import Schedule
from ..recipes.transformers import ResolvedTransformer
from ..transformer.architecture import TransformerArchitecture, uncompiled
from .callers import calling_pipeline

_ATTRIBUTE = "set_timesteps"


def shifts_by_size(scheduler: Any) -> bool:
    """Whether a scheduler's shift depends on the size."""
    return bool(getattr(scheduler, "config", {}).get("use_dynamic_shifting", False))


def check_schedule(section: Schedule | None, scheduler: Any) -> None:
    """Raise `RecipeError` for a [schedule] that would have no effect on a scheduler (None: there is none)."""
    if section is None or section.shift == "pipeline" or shifts_by_size(scheduler):
        return
    if scheduler is None:
        raise RecipeError("[schedule] needs a pipeline: a bare transformer has no schedule")
    kind = type(scheduler).__name__
    if section.shift == "native":
        raise RecipeError(
            f'[schedule] shift = "native" has no effect: the shift of this scheduler ({kind}) is the same at any size'
        )
    if not hasattr(scheduler, "set_shift"):
        raise RecipeError(f"[schedule] has no effect: this scheduler ({kind}) has no shift that can be set")


class ScheduleHook:
    """In the place of one scheduler's `set_timesteps`."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._own = scheduler.__dict__.get(_ATTRIBUTE)
        self.__signature__ = inspect.signature(scheduler.set_timesteps)  # pipelines look at it

    def put_on(self) -> None:
        """Take its place."""
        self._scheduler.__dict__[_ATTRIBUTE] = self

    def take_off(self) -> None:
        """Leave the scheduler's attributes as they were."""
        if self._scheduler.__dict__.get(_ATTRIBUTE) is self:
            del self._scheduler.__dict__[_ATTRIBUTE]
            if self._own is not None:
                self._scheduler.__dict__[_ATTRIBUTE] = self._own

    @staticmethod
    def is_on(scheduler: Any) -> bool:
        """Whether a scheduler has one."""
        return isinstance(getattr(scheduler, "__dict__", {}).get(_ATTRIBUTE), ScheduleHook)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        scheduler: Any = self._scheduler
        own = self._own or getattr(type(scheduler), _ATTRIBUTE).__get__(scheduler)
        pipe, names = calling_pipeline(lambda parts: "transformer" in parts and parts["scheduler"] is scheduler)
        installation = uncompiled(getattr(pipe, "transformer", None)).__dict__.get("_scalecrafter") if pipe else None
        height, width = names.get("height"), names.get("width")
        if installation is None or not (isinstance(height, int) and isinstance(width, int)):
            return own(*args, **kwargs)
        architecture: TransformerArchitecture = installation.architecture
        grid = architecture.grid(height, width)
        resolved: ResolvedTransformer | None = installation.resolved_for(grid, scheduler)
        if resolved is None or not resolved.shifts(grid):
            return own(*args, **kwargs)
        section = resolved.recipe.schedule
        assert section is not None
        if not shifts_by_size(scheduler):
            before = scheduler.shift
            scheduler.set_shift(exp(float(section.shift)))
            try:
                return own(*args, **kwargs)
            finally:
                scheduler.set_shift(before)
        bound = self.__signature__.bind(*args, **kwargs)
        if section.shift == "native":
            sigmas = bound.arguments.get("sigmas")
            steps = bound.arguments.get("num_inference_steps") if sigmas is None else len(sigmas)
            bound.arguments["mu"] = native_mu(architecture, pipe, scheduler, resolved.native_tokens(), steps)
        else:
            bound.arguments["mu"] = float(section.shift)
        return own(*bound.args, **bound.kwargs)


def native_mu(architecture: TransformerArchitecture, pipe: Any, scheduler: Any, tokens: int, steps: Any) -> float:
    """mu for a number of image tokens, as the pipelines of a family compute it.

    Raises:
        ModelError: where the pipeline has a way of its own that cannot be found.
    """
    if architecture.kind.empirical_shift:
        for kind in type(pipe).__mro__:
            function = getattr(sys.modules.get(kind.__module__), "compute_empirical_mu", None)
            if function is not None:
                return float(function(image_seq_len=tokens, num_steps=steps))
        raise ModelError(f"{type(pipe).__name__} does not say how it shifts its schedule: use a recipe without one")
    config = scheduler.config
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (most - least) / (high - low)
    return float(tokens * slope + (least - slope * low))
