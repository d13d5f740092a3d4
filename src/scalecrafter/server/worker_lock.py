"""Whether a worker lives: it holds a lock on a file, which the system takes back however it dies.

Where there are no such locks (Windows) no one is known to be dead, and the lease alone tells.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class WorkerLock:
    """The lock of this process, held until it ends."""

    def __init__(self, folder: Path, worker: str) -> None:
        self.path = folder / worker
        self._file: IO[bytes] | None = None
        if fcntl is None:
            return
        unlocked = folder / f".{worker}"  # under its own name it is never seen unlocked while we live
        self._file = open(unlocked, "xb")  # noqa: SIM115 - it is held open for as long as we live
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.replace(unlocked, self.path)

    def end(self) -> None:
        """Give the lock up."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()


def is_dead(folder: Path, worker: str) -> bool:
    """Whether the worker of that id is known to have ended; its lock file is then removed."""
    if fcntl is None:
        return False
    try:
        with open(folder / worker, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            with contextlib.suppress(OSError):
                os.unlink(folder / worker)
            return True
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
