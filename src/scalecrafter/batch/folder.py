"""The folder of a batch: one picture per request, named by the request's hash, and one row for each.

    3f…c2.png               named by the hash of the request that travels inside it, or as `--name` says
    manifest.parquet        one row a request; manifest.csv has the same for people
    journal/                rows since the manifest was written

A picture counts as made when its file is there. Its row is written first, so no picture is without a row. A row
without a picture does not count: its request is made when the batch is resumed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import ScaleCrafterError
from ..generation.picture_files import read_request, write_png
from .jobs import SUFFIX, BatchTask
from .lock import locked
from .manifest import Journal, ManifestRow, compact, writer_name
from .names import told_apart
from .storage import Storage, StorageError

if TYPE_CHECKING:
    from ..generation.generate import Result


class Results:
    """Where one process writes its pictures and rows."""

    def __init__(self, url: str, writer: str | None = None) -> None:
        self.storage = Storage(url)
        self._journal = Journal(self.storage, writer or writer_name())

    def has(self, file: str) -> bool:
        """Whether a picture is there already, by a look at the file system."""
        return self.storage.exists(file)

    def keep(self, row: ManifestRow, result: Result) -> None:
        """Write a picture and its row (`StorageError` when this fails; then it counts as not made)."""
        buffer = io.BytesIO()
        write_png(result, buffer)
        self._journal.add([row])
        self.storage.write(str(row.file), buffer.getvalue())

    def note(self, row: ManifestRow) -> None:
        """Write a row that has no picture."""
        self._journal.add([row])


class BatchFolder:
    """The folder, for the process that leads the batch (`opened_folder` makes it)."""

    def __init__(self, url: str) -> None:
        self.results = Results(url)
        self.storage = self.results.storage
        self._started = now()
        self.storage.sweep()
        self._pictures = self._names()
        self.rows = compact(self.storage, self._is_true)
        """Of earlier runs, by hash, without their texts."""
        self._hashes: dict[str, str | None] = {row.file: row.hash for row in self.rows.values() if row.file}
        self._taken: dict[str, str] = {}
        """Names that this run has given, in lower case, and to which hash."""

    def made(self, task: BatchTask) -> str | None:
        """The file of a task's picture, if it was there when this run began, under whatever name."""
        known = self.rows.get(task.hash)
        usual = f"{task.hash}{SUFFIX}"
        apart = replace(task, name=told_apart(task.name, task.hash)).file
        for file in (usual, known.file if known is not None else None, task.file, apart):
            if file in self._pictures and (file == usual or self.hash_of(file) == task.hash):
                return file
        return None

    def named(self, task: BatchTask) -> BatchTask:
        """The task with a name that no other picture has."""
        taken = self._taken.setdefault(task.name.casefold(), task.hash)
        if taken == task.hash and (task.file not in self._pictures or self.hash_of(task.file) == task.hash):
            return task
        return replace(task, name=told_apart(task.name, task.hash))

    def hash_of(self, file: str) -> str | None:
        """The digest of the request of a picture that was there when this run began; None if it has none."""
        if file not in self._hashes:
            try:
                self._hashes[file] = read_request(io.BytesIO(self.storage.read(file)), file).digest()
            except ScaleCrafterError:
                self._hashes[file] = None
        return self._hashes[file]

    def close(self) -> None:
        """Write the manifest when all workers have finished."""
        self.storage.sweep()
        self._pictures = self._names()
        compact(self.storage, self._is_true)

    def _names(self) -> set[str]:
        return {name for name in self.storage.names() if name.endswith(SUFFIX)}

    def _is_true(self, row: ManifestRow) -> bool:
        """A row counts as long as its picture is there. A row without a request counts in its own run only."""
        if row.hash is None:
            return (row.finished or "") >= self._started
        return row.status == "failed" or row.file in self._pictures


@contextmanager
def opened_folder(url: str) -> Iterator[BatchFolder]:
    """The folder of a batch for a `with` block. Its manifest is written at the end, after an exception too.

    Raises:
        RequestError: another batch works in the folder, or it is a file.
        StorageError: it cannot be read or written.
    """
    storage = Storage(url)
    storage.names()
    with locked(storage):
        folder = BatchFolder(url)
        try:
            yield folder
        except BaseException:
            with suppress(StorageError):  # a full disk, for example; the next run writes the manifest
                folder.close()
            raise
        folder.close()


def now() -> str:
    """The time in UTC, to the microsecond, in a form that sorts."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
