"""The progress of long commands on stderr: one bar for many pictures, the rate, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from .output import Reporter

LINE_EVERY = 30.0
"""Seconds between two lines where there is no terminal for a bar."""


class CountingReporter(Reporter):
    """Counts pictures."""

    def __init__(self) -> None:
        super().__init__()
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rate]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task: TaskID | None = None
        self._done = self._worked = self._total = 0
        self._started = self._last_line = 0.0
        self._working = False
        """Whether the first step is done: loading is not part of the rate."""

    def start_counting(self, done: int, total: int) -> None:
        """Begin, with the pictures that exist already and those that there will be."""
        self._done, self._worked, self._total = done, 0, total
        self._started = self._last_line = time.monotonic()
        self._task = self._bars.add_task("pictures", total=total, completed=done, rate="")

    def describe(self, text: str) -> None:
        """Show what is being done."""
        if not self._working:
            self._working, self._started = True, time.monotonic()
        if self._task is not None:
            self._bars.update(self._task, description=text)

    def count(self, what: str, worked: bool = True) -> None:
        """Count one more; `what` is printed where there is no bar.  The rate counts only what was `worked` on."""
        self._done += 1
        self._worked += worked
        if self._task is None:
            return
        self._bars.update(self._task, completed=self._done, rate=self._rate())
        now = time.monotonic()
        last = self._done == self._total
        if not self.console.is_terminal and worked and (now - self._last_line > LINE_EVERY or last):
            self._last_line = now
            self.note(f"{self._done}/{self._total} pictures, {what}, {self._rate()}")
        if last:
            self._bars.remove_task(self._task)
            self._task = None

    def _rate(self) -> str:
        if not self._worked:
            return ""
        each = (time.monotonic() - self._started) / self._worked
        return f"{each:.1f} s a picture, {in_hours((self._total - self._done) * each)} left"

    @contextmanager
    def counting(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """A bar for one part of the work; call what it yields with (done, total)."""
        task = self._bars.add_task(label, total=None, rate="")

        def report(done: int, total: int) -> None:
            self._bars.update(task, completed=done, total=total)

        try:
            yield report
        finally:
            self._bars.remove_task(task)

    @contextmanager
    def _bar(self, label: str, total: int | None) -> Iterator[TaskID]:
        task = self._bars.add_task(label, total=total, rate="")
        try:
            yield task
        finally:
            self._bars.remove_task(task)


def in_hours(seconds: float) -> str:
    """A time in the two largest units that matter, as "2 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
