"""What will happen to every layer at every step of one run, and that as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile

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
        return plan_table(self)


def plan_table(plan: Plan) -> str:
    """A plan as plain text: stretches of steps in which nothing changes, and blocks of layers with the same factors."""
    native = plan.architecture.pixel_factor
    head = (
        f"ScaleCrafter plan: {plan.width}×{plan.height} pixels, {plan.steps} steps, family {plan.architecture.family}, "
        f"native {plan.architecture.native_width * native}×{plan.architecture.native_height * native}"
    )
    if plan.resolved is None:
        return f"{head}\nnothing changes at this size: the pipeline runs as it is"
    rows = [("steps", "layers", "factor", "strong denoiser", "kernel")]
    for first, last in _stretches(plan):
        rows += _rows(plan, first, f"{first}" if first == last else f"{first}–{last}")
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    notes = []
    if plan.recipe and plan.recipe.noise_damping:
        notes.append("noise damping adds one unconditional evaluation to each step that has a strong denoiser")
    return "\n".join([head, *lines, *notes])


def _stretches(plan: Plan) -> list[tuple[int, int]]:
    """Runs of steps (first, last) with the same settings."""
    settings = [(plan.factors(s), plan.damping_factors(s), plan.dispersed(s)) for s in range(plan.steps)]
    starts = [step for step in range(plan.steps) if step == 0 or settings[step] != settings[step - 1]]
    return list(zip(starts, [start - 1 for start in starts[1:]] + [plan.steps - 1], strict=True))


def _rows(plan: Plan, step: int, label: str) -> list[tuple[str, str, str, str, str]]:
    factors, strong, dispersed = plan.factors(step), plan.damping_factors(step), set(plan.dispersed(step))
    names = [
        name
        for name in plan.architecture.convolutions
        if name in factors or name in dispersed or name in (strong or {})
    ]
    if not names:
        return [(label, "–", "plain", "plain" if strong is not None else "–", "–")]
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for name in names:
        block = (
            ".".join(name.split(".")[:2]) if name.split(".")[0] in ("down_blocks", "up_blocks") else name.split(".")[0]
        )
        kernel = (
            f"{plan.recipe.dispersion.kernel_size}×" * 2
            if name in dispersed and plan.recipe and plan.recipe.dispersion
            else "own"
        )
        strong_text = "–" if strong is None else _text(strong, name)
        groups.setdefault((block, _text(factors, name), strong_text, kernel.rstrip("×")), []).append(name)
    blocks = [block for block, *_ in groups]
    return [
        (label if i == 0 else "", block if blocks.count(block) == 1 else _shared(members), factor, damping, kernel)
        for i, ((block, factor, damping, kernel), members) in enumerate(groups.items())
    ]


def _shared(names: Sequence[str]) -> str:
    """The prefix that names share, down to the kind of layer at most: `up_blocks.0.upsamplers`."""
    columns = zip(*(name.split(".")[:3] for name in names), strict=False)
    return ".".join(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))


def _text(factors: Mapping[str, Factors], name: str) -> str:
    if name not in factors:
        return "plain"
    vertical, horizontal = factors[name]
    return f"{vertical:g}" if vertical == horizontal else f"{vertical:g} × {horizontal:g}"
