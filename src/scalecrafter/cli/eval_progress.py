"""The progress of `scalecrafter eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .counting import CountingReporter

if TYPE_CHECKING:
    from ..evaluation.settings import Sample


class EvaluationReporter(CountingReporter):
    """Watches an evaluation (`evaluation.runs.EvaluationListener`)."""

    def __enter__(self) -> EvaluationReporter:
        super().__enter__()
        return self

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
