"""Where in the trajectory a U-Net call is.

The place is the index of the call's timestep in the scheduler's full table, divided by the table's length, as an exact
fraction: 0 is pure noise.  Image-to-image starts later in the same table.  Without a scheduler it is
`1 − t / num_train_timesteps`.
"""

from __future__ import annotations

import copy
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

NUM_TRAIN_TIMESTEPS = 1000
"""Of every Stable Diffusion model; used where no scheduler says otherwise."""
_ROUNDING = 2.0**-8
"""How far, relatively, a timestep of the table may be rounded in bfloat16.  A value farther away is no
timestep of the table: the latent upscaler's U-Net takes the logarithm of the noise."""


def table_length(scheduler: Any, steps: int, strength: float = 1.0) -> int:
    """How many entries of a scheduler's table a run goes through; more than its steps for Heun and its like.

    Args:
        scheduler: which is left as it is; None has one entry a step.
        steps: as a pipeline's call takes them.
        strength: the fraction of the trajectory that the run goes through, as image-to-image counts it.
    """
    if scheduler is None:
        return steps
    scheduler = copy.deepcopy(scheduler)
    shifted = getattr(getattr(scheduler, "config", None), "use_dynamic_shifting", False)
    scheduler.set_timesteps(steps, **({"mu": 0.0} if shifted else {}))
    skipped: int = max(steps - int(steps * strength), 0) * scheduler.order
    return len(scheduler.timesteps) - skipped


class Trajectory:
    """Finds the place of each call; keeps only the last table."""

    def __init__(self) -> None:
        self._source: object = None
        self._version: int | None = None
        self._table: list[float] = []
        self.is_new = False
        """Whether the last call found another table than the one before: a run has begun."""

    def place(self, scheduler: Any, timestep: Tensor | float, run_length: int | None = None) -> Fraction:
        """The place of a call.

        Args:
            scheduler: whose table counts; None where there is none.
            timestep: a number, or a tensor of one or of equal values.
            run_length: how many entries of the table, up to its end, this run goes through; None if not known.
        """
        value = float(timestep.flatten()[0]) if isinstance(timestep, Tensor) else float(timestep)
        timesteps = getattr(scheduler, "timesteps", None)
        self.is_new = False
        if timesteps is None or len(timesteps) == 0:
            train = getattr(getattr(scheduler, "config", None), "num_train_timesteps", NUM_TRAIN_TIMESTEPS)
            return min(max(1 - Fraction(value) / int(train), Fraction(0)), Fraction(1))
        self._read(timesteps)
        return Fraction(self._index(scheduler, value, run_length), len(self._table))

    def _read(self, timesteps: Any) -> None:
        """Read the table anew, unless it is a tensor on a GPU that was not written to since (reading waits for it)."""
        self.is_new = timesteps is not self._source
        on_gpu = isinstance(timesteps, Tensor) and timesteps.device.type != "cpu" and not timesteps.is_inference()
        version = timesteps._version if on_gpu else None
        if self.is_new or version is None or version != self._version:
            self._source, self._version = timesteps, version
            self._table = [float(t) for t in torch.as_tensor(timesteps).tolist()]

    def _index(self, scheduler: Any, value: float, run_length: int | None) -> int:
        """Index in the table; for a timestep that occurs twice or not at all, the scheduler's own index decides."""
        distances = [abs(entry - value) for entry in self._table]
        nearest = min(distances)
        is_there = nearest <= _ROUNDING * abs(value)
        possible = [index for index, distance in enumerate(distances) if not is_there or distance == nearest]
        counted = self._counted(scheduler, run_length) if len(possible) > 1 else None
        return counted if counted in possible else distances.index(nearest)

    def _counted(self, scheduler: Any, run_length: int | None) -> int | None:
        """The scheduler's own index, if it has one."""
        for name in ("step_index", "begin_index"):  # the former is None until the first step of most schedulers
            index = getattr(scheduler, name, None)
            if isinstance(index, int):
                return index
        counter = getattr(scheduler, "counter", None)  # PNDM, which counts from where the run began
        if isinstance(counter, int):
            return counter + len(self._table) - (run_length or len(self._table))
        return None
