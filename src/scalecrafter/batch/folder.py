"""The folder of a batch: one picture per request, named by the request's hash, and one row for each.

    3f…c2.png               named by the hash of the request that travels inside it
    manifest.parquet        one row a request
    journal/                rows since the manifest was written

A picture counts as made when its file is there. Its row is written first, so no picture is without a row. A row
without a picture does not count: its request is made when the batch is resumed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..generation.picture_files import write_png
from .lock import locked
from .manifest import Journal, ManifestRow, compact, writer_name
from .storage import Storage, StorageError

if TYPE_CHECKING:
    from ..generation.generate import Result

SUFFIX = ".png"


class Results:
    """Where one process writes its pictures and rows."""

    def __init__(self, url: str, writer: str | None = None) -> None:
        self.storage = Storage(url)
        self._journal = Journal(self.storage, writer or writer_name())

    def has(self, hash: str) -> bool:
        """Whether a picture is there already, by a look at the file system."""
        return self.storage.exists(file_of(hash))

    def keep(self, row: ManifestRow, result: Result) -> None:
        """Write a picture and its row (`StorageError` when this fails; then it counts as not made)."""
        buffer = io.BytesIO()
        write_png(result, buffer)
        self._journal.add([row])
        self.storage.write(file_of(str(row.hash)), buffer.getvalue())

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
        self._pictures = {name.removesuffix(SUFFIX) for name in self.storage.names() if name.endswith(SUFFIX)}
        self.rows = compact(self.storage, self._is_true)
        """Of earlier runs, by hash, without their texts."""

    def made(self, hash: str) -> bool:
        """Whether a picture was there when this run began."""
        return hash in self._pictures

    def close(self) -> None:
        """Write the manifest when all workers have finished."""
        self.storage.sweep()
        self._pictures = {name.removesuffix(SUFFIX) for name in self.storage.names() if name.endswith(SUFFIX)}
        compact(self.storage, self._is_true)

    def _is_true(self, row: ManifestRow) -> bool:
        """A row counts as long as its picture is there. A row without a request counts in its own run only."""
        if row.hash is None:
            return (row.finished or "") >= self._started
        return row.status == "failed" or row.hash in self._pictures


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


def file_of(hash: str) -> str:
    """The name of a picture's file."""
    return f"{hash}{SUFFIX}"


def now() -> str:
    """The time in UTC, to the microsecond, in a form that sorts."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
