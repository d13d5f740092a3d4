"""A worker holds a lock on a file for as long as it lives. The system releases it, however the worker dies.

Windows has no such locks. There, only an expired lease shows that a worker is gone.
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
    """The lock of this process."""

    def __init__(self, folder: Path, worker: str) -> None:
        self.path = folder / worker
        self._file: IO[bytes] | None = None
        if fcntl is None:
            return
        unlocked = folder / f".{worker}"  # it gets its name when it is locked
        self._file = open(unlocked, "xb", opener=_private)  # noqa: SIM115 - open as long as the process lives
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.replace(unlocked, self.path)

    def release(self) -> None:
        """Release the lock."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def is_dead(folder: Path, worker: str) -> bool:
    """Whether the worker with that id has certainly ended; then its lock file is removed."""
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
