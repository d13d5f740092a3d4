"""Tells those who wait in this process that a job changed, whichever process changed it.

One task reads the latest changes from the store, twenty times a second, and wakes those who wait for them. So the cost
does not grow with the number of clients.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from .store import Store

_INTERVAL = 0.05
_log = logging.getLogger("scalecrafter.server")


class ChangeNotifier:
    """Wakes the tasks of one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self.stopping = False
        """Whether the server stops soon, so that nobody should wait any longer."""

    def start(self) -> None:
        """Start, on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def end(self) -> None:
        """Stop; those who still wait are woken."""
        self.stop_waiting()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def stop_waiting(self) -> None:
        """Wake everyone, and let nobody wait again."""
        self.stopping = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    @contextmanager
    def changes_of(self, job: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job changes; clear it before looking at the job."""
        event = asyncio.Event()
        self._waiting.setdefault(job, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[job].discard(event)
            if not self._waiting[job]:
                del self._waiting[job]

    async def _watch(self) -> None:
        since = 0
        while True:
            try:
                since, jobs = await asyncio.to_thread(self._store.changes, since)
                for job in jobs & self._waiting.keys():
                    for event in self._waiting[job]:
                        event.set()
            except Exception:
                _log.exception("cannot read the store; trying again")
                await asyncio.sleep(1.0)
            await asyncio.sleep(_INTERVAL)
