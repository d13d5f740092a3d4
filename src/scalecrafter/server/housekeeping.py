"""What has to be seen to now and then: dead workers' pictures, what is too old, and how much disk is used."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from pathlib import Path

from .claims import recover
from .database import Database
from .folders import Folders
from .records import DONE, QUEUED, RUNNING
from .settings import ServerSettings
from .worker_lock import is_dead

_RECOVERY_EVERY = 1.0
_REMOVAL_EVERY = 60.0
_YOUNG = 600.0
"""Seconds for which a file that no job names is left alone: its job may be about to be added."""
_log = logging.getLogger("scalecrafter.server")


class Housekeeper:
    """Sees to the data folder, in a thread of its own."""

    def __init__(self, settings: ServerSettings, folders: Folders, database: Database) -> None:
        self.settings, self.folders, self.database = settings, folders, database
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Do everything once, then now and then."""
        with self.database.writing() as connection:
            connection.execute("DELETE FROM models")  # the workers tell anew
        self.recover()
        self.remove_old()
        self._thread.start()

    def end(self) -> None:
        """Stop."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def recover(self) -> None:
        """Queue again what dead and hung workers were at."""
        lost = recover(self.database, partial(is_dead, self.folders.workers), self.settings.attempts)
        if lost:
            _log.warning("%d unfinished pictures of ended workers are seen to again", lost)

    def remove_old(self) -> None:
        """Remove what is past its time, then the oldest of what is too much, then files that belong to no job."""
        self._expire(time.time() - 3600 * self.settings.keep_hours)
        while self._bytes() > self.settings.keep_bytes and self._remove_oldest():
            pass
        self._sweep()

    def _expire(self, before: float) -> None:
        """Finished jobs whose last picture ended before that time, with their pictures."""
        for row in self.database.rows(
            "SELECT job FROM pictures GROUP BY job HAVING max(finished) < ? AND sum(status IN (?, ?)) = 0",
            before, QUEUED, RUNNING,
        ):  # fmt: skip
            self._remove(row["job"])

    def _bytes(self) -> int:
        rows = self.database.rows("SELECT coalesce(sum(bytes), 0) AS n FROM pictures WHERE status = ?", DONE)
        named = [row["name"] for row in self.database.rows("SELECT DISTINCT name FROM uploads")]
        uploads = (self.folders.upload(name) for name in named)
        return int(rows[0]["n"]) + sum(path.stat().st_size for path in uploads if path.exists())

    def _remove_oldest(self) -> bool:
        row = self.database.row(
            "SELECT job FROM pictures GROUP BY job HAVING sum(status IN (?, ?)) = 0 ORDER BY max(finished) LIMIT 1",
            QUEUED, RUNNING,
        )  # fmt: skip
        if row is None:
            return False
        self._remove(row["job"])
        return True

    def _remove(self, job: str) -> None:
        pictures = [row["id"] for row in self.database.rows("SELECT id FROM pictures WHERE job = ?", job)]
        with self.database.writing() as connection:
            connection.execute("DELETE FROM jobs WHERE id = ?", (job,))
        for picture in pictures:
            self.folders.picture(picture).unlink(missing_ok=True)

    def _sweep(self) -> None:
        known = {f"{row['id']}.png" for row in self.database.rows("SELECT id FROM pictures")}
        for path in self.folders.pictures.iterdir():
            if path.name not in known and _is_old(path):
                path.unlink(missing_ok=True)
        for path in self.folders.uploads.iterdir():
            if not self._is_named(path.name) and _is_old(path):
                path.unlink(missing_ok=True)

    def _is_named(self, upload: str) -> bool:
        return self.database.row("SELECT 1 FROM uploads WHERE name = ? LIMIT 1", upload) is not None

    def _run(self) -> None:
        removed = time.monotonic()
        while not self._ended.wait(_RECOVERY_EVERY):
            try:
                self.recover()
                if time.monotonic() - removed > _REMOVAL_EVERY:
                    self.remove_old()
                    removed = time.monotonic()
            except Exception:
                _log.exception("housekeeping failed; trying again")


def _is_old(path: Path) -> bool:
    try:
        return path.is_file() and time.time() - path.stat().st_mtime > _YOUNG
    except FileNotFoundError:
        return False
