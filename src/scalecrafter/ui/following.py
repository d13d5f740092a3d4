"""Submit, watch and cancel the jobs of one page, as plain values. `rendering` makes HTML of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from ..request.request import Request
from ..server.jobs import Jobs
from ..server.records import RUNNING, ServerJob
from ..server.store import UnknownJobError

MOST_JOBS = 2
"""A picture, and direct inference beside it."""


@dataclass(frozen=True)
class JobsProgress:
    """The state of the jobs of one page: the picture's, and that of direct inference to compare with."""

    jobs: tuple[ServerJob, ...]
    current: int
    """Which of them is watched; those before it are final."""
    preview: bytes | None = None
    """JPEG, of the one that is watched."""
    working: bool = True
    """Whether a worker is there: False while the first one still loads its model."""
    stopping: bool = False
    """Whether the server ends now."""

    @property
    def ids(self) -> list[str]:
        """Of the jobs."""
        return [job.id for job in self.jobs]

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return all(job.is_final for job in self.jobs)


async def submit(jobs: Jobs, request: Request, compare: bool) -> list[str]:
    """The ids of one job, or of two with the same seed. Both are accepted or none (errors of `Jobs.submit`)."""
    first = await asyncio.to_thread(jobs.submit, request)
    if not compare or request == request.directly():
        return [first]
    try:
        accepted = await asyncio.to_thread(jobs.get, first)
        return [first, await asyncio.to_thread(jobs.submit, accepted.request.directly())]
    except BaseException:
        await asyncio.to_thread(jobs.cancel, first)
        raise


async def follow(jobs: Jobs, ids: Sequence[str]) -> AsyncIterator[JobsProgress]:
    """States until all jobs are final, or the server stops (`UnknownJobError`)."""
    states = [await asyncio.to_thread(jobs.get, job) for job in ids[:MOST_JOBS]]
    for index, job in enumerate(ids[:MOST_JOBS]):
        async for state in jobs.watch(job):
            states[index] = state
            yield await _state_of(jobs, states, index)


async def cancel(jobs: Jobs, ids: Sequence[str]) -> None:
    """Cancel these jobs; missing ones are skipped."""
    for job in ids[:MOST_JOBS]:
        try:
            await asyncio.to_thread(jobs.cancel, job)
        except UnknownJobError:
            continue


async def _state_of(jobs: Jobs, states: Sequence[ServerJob], index: int) -> JobsProgress:
    picture = states[index].pictures[0]
    preview = await asyncio.to_thread(jobs.preview, picture.id) if picture.preview_number else None
    working = picture.status == RUNNING or bool(
        await asyncio.to_thread(jobs.store.ready_workers, 3 * jobs.settings.lease)
    )
    return JobsProgress(tuple(states), index, preview, working, jobs.notifier.stopping)
