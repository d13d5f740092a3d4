"""Where in the trajectory a transformer call is: the index of its step in the scheduler's table, as a fraction."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor

_ROUNDING = 2.0**-7
"""How far, relatively, a timestep may be from its entry in the table: pipelines round it to the latents' type."""
NUM_TRAIN_TIMESTEPS = 1000


def call_place(scheduler: Any, timestep: float) -> Fraction:
    """The place of a call: 0 is pure noise.

    The scheduler's own index counts where it fits the timestep: at a high shift many steps round to one timestep.

    Args:
        scheduler: whose table counts; without one, or an empty one, the place is 1 − t / num_train_timesteps.
        timestep: in the scheduler's own units.
    """
    table = getattr(scheduler, "timesteps", None)
    if table is None or len(table) == 0:
        train = getattr(getattr(scheduler, "config", None), "num_train_timesteps", NUM_TRAIN_TIMESTEPS)
        return min(max(1 - Fraction(timestep) / int(train), Fraction(0)), Fraction(1))
    entries = [float(entry) for entry in table.tolist()]
    for name in ("step_index", "begin_index"):  # the former is None until the first step
        index = getattr(scheduler, name, None)
        if isinstance(index, int):
            fits = 0 <= index < len(entries) and abs(entries[index] - timestep) <= _ROUNDING * max(abs(timestep), 1)
            if fits:
                return Fraction(index, len(entries))
            break
    distances = [abs(entry - timestep) for entry in entries]
    return Fraction(distances.index(min(distances)), len(entries))


def largest_value(timestep: Tensor | float) -> float:
    """The timestep of a call: one for every picture; in a video, tokens that are given are at 0."""
    return float(timestep.max()) if isinstance(timestep, Tensor) else float(timestep)
