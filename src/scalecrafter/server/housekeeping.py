"""What is done now and then: recover the pictures of dead workers, remove what is old, keep to the disk's limit."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from functools import partial
from pathlib import Path

from .claims import give_up, recover, unserved
from .database import Database
from .folders import Folders
from .records import DONE, QUEUED, RUNNING
from .removal import remove_job, remove_upload
from .settings import ServerSettings
from .worker_lock import is_dead

_RECOVERY_EVERY = 1.0
_REMOVAL_EVERY = 60.0
_YOUNG = 600.0
"""Seconds for which a file that no job names is left alone: it may be in the making."""
_USUAL_STORE = 4 << 20
"""Bytes of the store that do not count."""
_log = logging.getLogger("scalecrafter.server")


class Housekeeper:
    """Looks after the data folder, in a thread of its own."""

    def __init__(self, settings: ServerSettings, folders: Folders, database: Database) -> None:
        self.settings, self.folders, self.database = settings, folders, database
        self._served = {*settings.model_keys, *settings.model_keys.values()}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Do everything once, and then now and then."""
        with self.database.writing() as connection:  # the workers publish them again
            connection.executemany("DELETE FROM models WHERE model = ?", [(model,) for model in self._served])
        shutil.rmtree(self.folders.page, ignore_errors=True)  # uploads of earlier versions
        self.recover()
        self.remove_old()
        for model, jobs in unserved(self.database, self._served).items():
            _log.warning("%d jobs wait for a server with the model %s", len(jobs), model)
        self._thread.start()

    def end(self) -> None:
        """Stop."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def recover(self) -> None:
        """Queue the pictures of dead and hung workers again."""
        lost = recover(self.database, partial(is_dead, self.folders.workers), self.settings.attempts)
        if lost:
            _log.warning("%d unfinished pictures of ended workers are in the queue again", lost)

    def remove_old(self) -> None:
        """Remove what is past its time, then the oldest jobs beyond the disk's limit, then files of no job."""
        before = time.time() - 3600 * self.settings.keep_hours
        self._give_up_unserved(before)
        self._expire(before)
        while self._bytes() > self.settings.keep_bytes and self._remove_oldest():
            pass
        self._sweep()

    def _give_up_unserved(self, before: float) -> None:
        """Jobs from before that time whose model no server has."""
        message = f"no server had this model for {self.settings.keep_hours:g} hours: send the request again"
        for jobs in unserved(self.database, self._served).values():
            for job in jobs:
                if self.database.row("SELECT 1 FROM jobs WHERE id = ? AND created < ?", job, before):
                    give_up(self.database, job, message)

    def _expire(self, before: float) -> None:
        """Jobs whose last picture ended before that time, with their pictures."""
        for row in self.database.rows(
            "SELECT job FROM pictures GROUP BY job HAVING max(finished) < ? AND sum(status IN (?, ?)) = 0",
            before, QUEUED, RUNNING,
        ):  # fmt: skip
            remove_job(self.database, self.folders, row["job"])

    def _bytes(self) -> int:
        """Of pictures, uploads and the store."""
        rows = self.database.rows("SELECT coalesce(sum(bytes), 0) AS n FROM pictures WHERE status = ?", DONE)
        uploads = sum(_size(path) for path in self.folders.uploads.iterdir())
        store = max(self.database.bytes_used() - _USUAL_STORE, 0)
        return int(rows[0]["n"]) + uploads + store

    def _remove_oldest(self) -> bool:
        row = self.database.row(
            "SELECT job FROM pictures GROUP BY job HAVING sum(status IN (?, ?)) = 0 ORDER BY max(finished) LIMIT 1",
            QUEUED, RUNNING,
        )  # fmt: skip
        if row is None:
            return False
        remove_job(self.database, self.folders, row["job"])
        return True

    def _sweep(self) -> None:
        """Files that no job names: those of a process that was killed."""
        known = {f"{row['id']}.png" for row in self.database.rows("SELECT id FROM pictures")}
        for path in self.folders.pictures.iterdir():
            if path.name not in known and _is_old(path):
                path.unlink(missing_ok=True)
        for path in self.folders.uploads.iterdir():
            if _is_old(path):
                remove_upload(self.database, self.folders, path.name)

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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
