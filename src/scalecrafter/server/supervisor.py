"""The worker processes of a server: start them, replace those that die, stop them."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from .settings import ServerSettings
from .worker_arguments import WRONG_SETTINGS, WorkerArguments

_LOOK_EVERY = 0.2
_LONGEST_PAUSE = 30.0
_HEALTHY = 60.0
"""Seconds after which a worker counts as healthy: if it dies then, the next one starts soon."""
_DECODING = 30.0
"""Seconds that a worker has beyond the grace period: decoding cannot be interrupted."""
_log = logging.getLogger("scalecrafter.server")


class Supervisor:
    """The workers of one server.

    Args:
        settings: theirs.
        on_wrong_settings: called (in a thread) when a worker cannot work with its settings.
    """

    def __init__(self, settings: ServerSettings, on_wrong_settings: Callable[[], None] = lambda: None) -> None:
        self.settings = settings
        self._on_wrong_settings = on_wrong_settings
        self._ended = threading.Event()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._started: list[float] = []
        self._pause = [1.0] * settings.workers
        self._thread = threading.Thread(target=self._watch_over, name="workers", daemon=True)

    def start(self) -> None:
        """Start all workers, and replace those that die."""
        for index in range(self.settings.workers):
            self._processes.append(self._spawn(index))
            self._started.append(time.monotonic())
        self._thread.start()

    def ask_to_end(self) -> None:
        """Let each worker finish its picture within the grace period."""
        self._ended.set()
        for process in self._processes:
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()

    def end(self) -> None:
        """The same, and wait. A worker that is there long after the grace period is killed."""
        self.ask_to_end()
        if self._thread.is_alive():
            self._thread.join(10)
        ends = time.monotonic() + self.settings.grace + _DECODING
        for process in self._processes:
            try:
                process.wait(max(ends - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _spawn(self, index: int) -> subprocess.Popen[bytes]:
        task = WorkerArguments(settings=self.settings, index=index)
        process = subprocess.Popen([sys.executable, "-m", "scalecrafter.server.worker"], stdin=subprocess.PIPE)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(task.model_dump_json().encode() + b"\n")
            process.stdin.flush()
        return process

    def _watch_over(self) -> None:
        due: dict[int, float] = {}
        while not self._ended.wait(_LOOK_EVERY):
            for index, process in enumerate(self._processes):
                code = process.poll()
                if code is None:
                    continue
                if code == WRONG_SETTINGS:
                    self._on_wrong_settings()
                    return
                if index not in due:
                    lived = time.monotonic() - self._started[index]
                    self._pause[index] = 1.0 if lived > _HEALTHY else min(2 * self._pause[index], _LONGEST_PAUSE)
                    due[index] = time.monotonic() + self._pause[index]
                    _log.warning("worker %d ended (exit code %d); a new one starts", index, code)
                elif time.monotonic() >= due[index]:
                    del due[index]
                    self._processes[index] = self._spawn(index)
                    self._started[index] = time.monotonic()
