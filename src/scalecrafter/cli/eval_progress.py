"""What `scalecrafter eval` says while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .counting import CountingReporter

if TYPE_CHECKING:
    from ..evaluation.settings import Job


class EvaluationReporter(CountingReporter):
    """Watches an evaluation (`evaluation.runs.Watcher`)."""

    def __enter__(self) -> EvaluationReporter:
        super().__enter__()
        return self

    def begin(self, done: int, total: int) -> None:
        """How many pictures are there already, and how many there shall be."""
        self.start_counting(done, total)
        if done:
            self.note(f"{done} of {total} pictures are there already")

    def step(self, job: Job, step: int, steps: int) -> None:
        """A step of denoising."""
        self.describe(f"{_place(job)}: step {step}/{steps}")

    def finished(self, job: Job, seconds: float) -> None:
        """A picture is safe on disk."""
        self.count(f"{_place(job)} took {seconds:.1f} s")


def _place(job: Job) -> str:
    return f"{job.label} {job.size[0]}×{job.size[1]} #{job.index}"
