"""What will happen to a transformer at every step of one run, and that as a table."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from .._util.sizes import Factors, GridSize
from ..transformer.architecture import TransformerArchitecture
from .recipe import Recipe
from .transformers import ResolvedTransformer, TransformerChanges

NOTHING = TransformerChanges()


@dataclass(frozen=True)
class TransformerPlan:
    """What will happen at every step of one run.  `print(plan)` shows a table."""

    height: int
    """Image pixels."""
    width: int
    steps: int
    """Length of the scheduler's table."""
    architecture: TransformerArchitecture
    resolved: ResolvedTransformer | None
    """None where nothing changes: the automatic recipe up to the size that the model draws alone."""
    mu: float | None = None
    """The shift of the schedule, where the recipe sets it."""

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that acts, or None."""
        return self.resolved.recipe if self.resolved else None

    @property
    def grid(self) -> GridSize:
        """The image tokens of this size."""
        return self.architecture.grid(self.height, self.width)

    def changes(self, step: int) -> TransformerChanges:
        """All that happens in the calls of a step."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} is not one of this plan's {self.steps} steps (0…{self.steps - 1})")
        return self.resolved.changes(Fraction(step, self.steps), self.grid) if self.resolved else NOTHING

    def scales(self, step: int) -> Factors:
        """By how much positions are scaled at this step (vertical, horizontal); 1 leaves an axis alone."""
        positions = self.changes(step).positions
        scales = {axis: scale for axis, scale, _ in positions.axes()} if positions else {}
        return scales.get(0, 1.0), scales.get(1, 1.0)

    def temperature(self, step: int) -> float:
        """By how much the logits of attention are multiplied at this step."""
        changes = self.changes(step)
        return (changes.temperature or 1.0) * (changes.positions.magnitude**2 if changes.positions else 1.0)

    def factors(self, step: int) -> dict[str, Factors]:
        """(vertical, horizontal) of every re-dilated layer at this step."""
        return dict(self.changes(step).layers.factors)

    def damping_factors(self, step: int) -> dict[str, Factors] | None:
        """None: a transformer has no noise damping."""
        self.changes(step)  # raises for a step that is none
        return None

    def dispersed(self, step: int) -> list[str]:
        """Names of the layers whose kernels are dispersed at this step."""
        return sorted(self.changes(step).layers.dispersed)

    def __str__(self) -> str:
        return transformer_plan_table(self)


def transformer_plan_table(plan: TransformerPlan) -> str:
    """A plan as plain text, one line for each stretch of steps in which nothing changes."""
    about, native = plan.architecture, plan.architecture.native
    head = (
        f"ScaleCrafter plan: {plan.width}×{plan.height} pixels, {plan.steps} steps, family {about.family}, "
        f"{plan.grid.width}×{plan.grid.height} tokens, native {native.width}×{native.height}"
    )
    if plan.resolved is None:
        return f"{head}\nnothing changes at this size: the pipeline runs as it is"
    rows = [("steps", "positions", "attention", "convolutions")]
    settings = [_row(plan, step) for step in range(plan.steps)]
    starts = [step for step in range(plan.steps) if step == 0 or settings[step] != settings[step - 1]]
    for first, last in zip(starts, [start - 1 for start in starts[1:]] + [plan.steps - 1], strict=True):
        rows.append((f"{first}" if first == last else f"{first}–{last}", *settings[first]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    if plan.mu is not None:
        lines.append(f"the schedule is shifted by mu = {plan.mu:.4g}")
    return "\n".join([head, *lines])


def _row(plan: TransformerPlan, step: int) -> tuple[str, str, str]:
    scales, temperature, factors = plan.scales(step), plan.temperature(step), plan.factors(step)
    positions = plan.recipe.positions if plan.recipe else None
    moved = f"{positions.method} {_text(scales)}" if positions and max(scales) > 1 else "plain"
    layers = sorted({_text(axes) for axes in factors.values()})
    dispersed = len(plan.dispersed(step))
    convolutions = [f"{len(factors)} dilated by {', '.join(layers)}"] if factors else []
    convolutions += [f"{dispersed} dispersed"] if dispersed else []
    return moved, "plain" if temperature == 1 else f"× {temperature:.4g}", "; ".join(convolutions) or "plain"


def _text(axes: Factors) -> str:
    return f"{axes[0]:.4g}" if axes[0] == axes[1] else f"{axes[0]:.4g} × {axes[1]:.4g}"
