"""The folder of a batch: a picture a request under its hash, and the rows that tell of them.

    3f…c2.png               named by the hash of the request that travels inside it
    manifest.parquet        one row a request
    journal/                rows since the manifest was written

A picture is made when its file is there.  Its row is written before it, so neither can be lost alone: a row without a
picture says nothing, and its request is made when the batch goes on.
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
    """Where one process puts what it makes."""

    def __init__(self, url: str, writer: str | None = None) -> None:
        self.place = Storage(url)
        self._journal = Journal(self.place, writer or writer_name())

    def has(self, hash: str) -> bool:
        """Whether a picture is there already; asks the file system."""
        return self.place.exists(file_of(hash))

    def keep(self, row: ManifestRow, result: Result) -> None:
        """Keep a picture with its row (`StorageError` when it cannot be written; then it counts as not made)."""
        buffer = io.BytesIO()
        write_png(result, buffer)
        self._journal.add([row])
        self.place.write(file_of(str(row.hash)), buffer.getvalue())

    def note(self, row: ManifestRow) -> None:
        """Keep a row that has no picture."""
        self._journal.add([row])


class BatchFolder:
    """The folder as the one who leads the batch sees it; made by `opened_folder`."""

    def __init__(self, url: str) -> None:
        self.results = Results(url)
        self.place = self.results.place
        self._started = now()
        self.place.sweep()
        self._pictures = {name.removesuffix(SUFFIX) for name in self.place.names() if name.endswith(SUFFIX)}
        self.rows = compact(self.place, self._is_true)
        """Of earlier runs, by hash, without their texts."""

    def made(self, hash: str) -> bool:
        """Whether a picture was there when this run began."""
        return hash in self._pictures

    def close(self) -> None:
        """Write the manifest; nobody is writing any more."""
        self.place.sweep()
        self._pictures = {name.removesuffix(SUFFIX) for name in self.place.names() if name.endswith(SUFFIX)}
        compact(self.place, self._is_true)

    def _is_true(self, row: ManifestRow) -> bool:
        """A row counts while its picture is there; one of no request, in the run that met it."""
        if row.hash is None:
            return (row.finished or "") >= self._started
        return row.status == "failed" or row.hash in self._pictures


@contextmanager
def opened_folder(url: str) -> Iterator[BatchFolder]:
    """A batch's folder for the length of a `with` block; on the way out, by whatever way, its manifest is written.

    Raises:
        RequestError: where another batch is at work in it, or it is a file.
        StorageError: where it cannot be read or written.
    """
    place = Storage(url)
    place.names()
    with locked(place):
        folder = BatchFolder(url)
        try:
            yield folder
        except BaseException:
            with suppress(StorageError):  # on a disk that is full, say; then the next run makes the manifest
                folder.close()
            raise
        folder.close()


def file_of(hash: str) -> str:
    """The name of a picture's file."""
    return f"{hash}{SUFFIX}"


def now() -> str:
    """The time in UTC, to the microsecond, in a form that sorts."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
