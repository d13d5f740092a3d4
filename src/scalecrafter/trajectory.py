"""Where in the trajectory a U-Net call is.

The place is the index of the call's timestep in the scheduler's full table, divided by the table's length, as an exact
fraction: 0 is pure noise.  Image-to-image starts later in the same table.  Without a scheduler it is
`1 − t / num_train_timesteps`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

NUM_TRAIN_TIMESTEPS = 1000
"""Of every Stable Diffusion model; used where no scheduler says otherwise."""


class Trajectory:
    """Finds the place of each call; remembers only the table that it last saw."""

    def __init__(self) -> None:
        self._source: object = None
        self._table: list[float] = []

    def place(self, scheduler: Any, timestep: Tensor | float) -> Fraction:
        """The place of a call with this `timestep` (a number, or a tensor of one or of equal values)."""
        value = float(timestep.flatten()[0]) if isinstance(timestep, Tensor) else float(timestep)
        timesteps = getattr(scheduler, "timesteps", None)
        if timesteps is None or len(timesteps) == 0:
            train = getattr(getattr(scheduler, "config", None), "num_train_timesteps", NUM_TRAIN_TIMESTEPS)
            return min(max(1 - Fraction(value) / int(train), Fraction(0)), Fraction(1))
        if timesteps is not self._source:
            self._source, self._table = timesteps, [float(t) for t in torch.as_tensor(timesteps).tolist()]
        return Fraction(self._index(scheduler, value), len(self._table))

    def _index(self, scheduler: Any, value: float) -> int:
        """Index in the table; where a timestep stands twice, the scheduler's own counter tells which one it is."""
        counter = getattr(scheduler, "step_index", None)
        if isinstance(counter, int) and 0 <= counter < len(self._table) and self._table[counter] == value:
            return counter
        return min(range(len(self._table)), key=lambda index: abs(self._table[index] - value))
