"""What will happen to every layer at every step of one run."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from .._util.sizes import Factors
from ..unet.architecture import Architecture
from .recipe import Recipe
from .resolution import ResolvedRecipe


@dataclass(frozen=True)
class Plan:
    """What will happen to every layer at every step of one run.  `print(plan)` shows a table.

    A step is an index into the scheduler's table of timesteps (which, for Heun and its like, is longer than
    `num_inference_steps`).
    """

    height: int
    """Image pixels."""
    width: int
    steps: int
    """Length of the scheduler's table."""
    architecture: Architecture
    resolved: ResolvedRecipe | None
    """None where nothing changes: the automatic recipe at the native size."""

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that acts, or None."""
        return self.resolved.recipe if self.resolved else None

    def _place(self, step: int) -> Fraction:
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} is not one of this plan's {self.steps} steps (0…{self.steps - 1})")
        return Fraction(step, self.steps)

    def factors(self, step: int) -> dict[str, Factors]:
        """(vertical, horizontal) of every re-dilated layer at this step."""
        place = self._place(step)
        return dict(self.resolved.structure(place).factors) if self.resolved else {}

    def damping_factors(self, step: int) -> dict[str, Factors] | None:
        """The same for the strong denoiser; None outside the span of noise damping."""
        place = self._place(step)
        strong = self.resolved.strong(place) if self.resolved else None
        return None if strong is None else dict(strong.factors)

    def dispersed(self, step: int) -> list[str]:
        """Names of the layers whose kernels are dispersed at this step."""
        place = self._place(step)
        return sorted(self.resolved.structure(place).dispersed) if self.resolved else []

    def __str__(self) -> str:
        from .plan_table import plan_table

        return plan_table(self)
