"""A scheduler of flow matching whose steps are seen, or guided by those of a run at a lower resolution.

HiFlow (Bu et al. 2025, arXiv 2504.06232).  At a step with noise σ the model's velocity v says what the picture will be:
x0 = x − σ v.  The picture that the run before said at the same step, enlarged, is the reference r.  Then

    x0 ← x0 + α (LP(r) − LP(x0))                         the reference's low frequencies
    v  ← (x − x0) / σ,   v_r = (x − r) / σ
    v  ← v + β (v_before + v_r − v_r,before − v)         it bends as the reference's did

where "before" is the step before, LP a Butterworth low pass, and α and β fall linearly to 0 over the run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .._util.sizes import GridSize
from ..errors import ModelError
from ..ops.frequencies import low_pass
from ..ops.packing import as_maps, packed

_ATTRIBUTE = "step"
_SMALL = 1e-6
"""Beside σ in a denominator."""


@dataclass
class Trace:
    """What a run said at each of its steps: by the scheduler's timestep, x0 as maps."""

    pictures: dict[float, Tensor] = field(default_factory=dict)

    def at(self, timestep: float, size: GridSize) -> Tensor:
        """The picture at the nearest timestep, bicubically at `size` latent pixels, in float32."""
        nearest = min(self.pictures, key=lambda known: abs(known - timestep))
        return F.interpolate(self.pictures[nearest].float(), tuple(size), mode="bicubic", align_corners=False)


@dataclass(frozen=True)
class FlowGuidance:
    """How a run follows the trace of another."""

    reference: Trace
    alpha: float
    beta: float
    cutoff: float
    steps: int
    """Of this run."""


@contextmanager
def traced_steps(scheduler: Any, size: GridSize, guidance: FlowGuidance | None = None) -> Iterator[Trace]:
    """For the length of a `with` block, keep what a scheduler's steps say, and guide them.

    Args:
        scheduler: a FlowMatchEulerDiscreteScheduler.
        size: of the latents, in latent pixels.
        guidance: by which run; None keeps only.

    Raises:
        ModelError: for another scheduler.
    """
    if type(scheduler).__name__ != "FlowMatchEulerDiscreteScheduler":
        raise ModelError(
            f"guiding the flow needs Euler steps of flow matching, and this model has {type(scheduler).__name__}: "
            "take the scheduler euler"
        )
    hook = _Step(scheduler, size, guidance)
    before = scheduler.__dict__.get(_ATTRIBUTE)
    scheduler.__dict__[_ATTRIBUTE] = hook
    try:
        yield hook.trace
    finally:
        del scheduler.__dict__[_ATTRIBUTE]
        if before is not None:
            scheduler.__dict__[_ATTRIBUTE] = before


class _Step:
    """In the place of a scheduler's `step`."""

    def __init__(self, scheduler: Any, size: GridSize, guidance: FlowGuidance | None) -> None:
        self._scheduler, self._own, self._size, self._guidance = scheduler, scheduler.step, size, guidance
        self.__signature__ = inspect.signature(scheduler.step)  # pipelines look at it
        self.trace = Trace()
        self._taken = 0
        self._before: tuple[Tensor, Tensor] | None = None
        """The velocity of the step before, and the reference's."""

    def __call__(self, model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        scheduler = self._scheduler
        if scheduler.step_index is None:
            scheduler._init_step_index(timestep)
        noise = float(scheduler.sigmas[scheduler.step_index])
        velocity, latents = (as_maps(each, self._size).float() for each in (model_output, sample))
        picture = latents - noise * velocity
        self.trace.pictures[float(timestep)] = picture
        if self._guidance is not None:
            velocity = self._guided(self._guidance, float(timestep), latents, picture, noise)
            made = packed(velocity) if model_output.ndim == 3 else velocity
            model_output = made.to(model_output.dtype)
        return self._own(model_output, timestep, sample, *args, **kwargs)

    def _guided(
        self, guidance: FlowGuidance, timestep: float, latents: Tensor, picture: Tensor, noise: float
    ) -> Tensor:
        fading = 1 - self._taken / guidance.steps
        reference = guidance.reference.at(timestep, self._size).to(latents.device)
        low = low_pass(reference, guidance.cutoff) - low_pass(picture, guidance.cutoff)
        picture = picture + guidance.alpha * fading * low
        velocity, followed = ((latents - each) / (noise + _SMALL) for each in (picture, reference))
        if self._before is not None:
            before, followed_before = self._before
            bent = before + followed - followed_before
            velocity = velocity + guidance.beta * fading * (bent - velocity)
        self._before, self._taken = (velocity, followed), self._taken + 1
        return velocity
