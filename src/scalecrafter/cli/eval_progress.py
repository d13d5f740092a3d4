"""The progress of `scalecrafter eval`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .counting import CountingReporter, in_hours

if TYPE_CHECKING:
    from ..evaluation.estimate import PlannedCell
    from ..evaluation.settings import Sample


class EvaluationReporter(CountingReporter):
    """Watches an evaluation (`evaluation.runs.EvaluationListener`)."""

    def __enter__(self) -> EvaluationReporter:
        super().__enter__()
        return self

    def planned(self, cells: Sequence[PlannedCell]) -> None:
        """Say what is to be made, and about how long that takes."""
        if not cells:
            return
        self.note(f"{sum(cell.pictures for cell in cells)} pictures to make:")
        for cell in cells:
            each = "" if cell.seconds_each is None else f", about {_about(cell.seconds_each)} each"
            self.note(f"  {cell.pictures} × {cell.label} {cell.size[0]}×{cell.size[1]}{each}")
        known = [cell.pictures * cell.seconds_each for cell in cells if cell.seconds_each is not None]
        if not known:
            return
        others = " and the methods without an estimate" if len(known) < len(cells) else ""
        self.note(f"about {in_hours(sum(known))} in all{others}, by one step timed here; stop and resume at any time")

    def begin(self, done: int, total: int) -> None:
        """Show the pictures that exist already and those that there will be."""
        self.start_counting(done, total)
        if done:
            self.note(f"{done} of {total} pictures are there already")

    def step(self, sample: Sample, step: int, steps: int) -> None:
        """Show a step of denoising."""
        self.describe(f"{_place(sample)}: step {step}/{steps}")

    def finished(self, sample: Sample, seconds: float) -> None:
        """A picture is on disk."""
        self.count(f"{_place(sample)} took {seconds:.1f} s")


def _place(sample: Sample) -> str:
    return f"{sample.label} {sample.size[0]}×{sample.size[1]} #{sample.index}"


def _about(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else in_hours(seconds)
