"""The rows of a batch, one a request, as Parquet that survives any end of the process.

    manifest.parquet        all rows of earlier runs
    journal/*.parquet       what has happened since: a part each time, written whole

The journal becomes the manifest when a run ends, or when the next one begins.  Where a hash stands in several rows, the
last one counts, so a crash between writing a manifest and removing the journal loses and doubles nothing.
"""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from .storage import Storage, StorageError

MANIFEST = "manifest.parquet"
JOURNAL = "journal"
PARTS = 256
"""So many parts of one writer are merged into one, so that the journal's folder stays small."""
ROWS_AT_ONCE = 10_000


class ManifestRow(BaseModel):
    """What came of one line of a jobs file."""

    model_config = ConfigDict(frozen=True)

    hash: str | None
    """`Request.digest` of the settled request; None for a line that is no request."""
    line: int
    """Where it stood first: its line in the file (of Parquet, its row), from 1."""
    request: str | None
    """The settled request as JSON; None for a line that is none."""
    status: Literal["made", "failed"]
    file: str | None = None
    """Of the picture, relative to the folder."""
    seconds: float | None = None
    """What it took; its share, where several were made together."""
    attempts: int = 0
    """How many times it was tried."""
    error: str | None = None
    versions: str | None = None
    """Of the packages that made it, as JSON."""
    environment: str | None = None
    """Device, dtype and scheduler, as JSON."""
    worker: str | None = None
    """Host and process."""
    finished: str | None = None
    """When, in UTC."""

    @property
    def key(self) -> str:
        """What there is one row of."""
        return self.hash or f"line {self.line}"


class Journal:
    """What one process writes of what happens."""

    def __init__(self, place: Storage, writer: str, most_parts: int = PARTS) -> None:
        """Begin a journal.

        Args:
            place: of the batch.
            writer: a name that no other process uses.
            most_parts: after so many, they are merged into one.
        """
        self._place = place
        self._writer = f"{time.time_ns():020d}-{writer}"
        self._most_parts = most_parts
        self._parts: list[str] = []
        self._count = 0

    def add(self, rows: Iterable[ManifestRow]) -> None:
        """Write rows; once this returns they outlive the process (`StorageError`)."""
        self._parts.append(self._write(rows))
        if len(self._parts) >= self._most_parts:
            self._write([row for part in self._parts for row in _read(self._place, part)])
            for part in self._parts:
                self._place.delete(part)
            self._parts = []

    def _write(self, rows: Iterable[ManifestRow]) -> str:
        self._count += 1
        name = f"{JOURNAL}/{self._writer}-{self._count:08d}.parquet"
        self._place.write(name, _encoded([rows]))
        return name


def writer_name() -> str:
    """A name for a process's journal."""
    return secrets.token_hex(4)


def compact(place: Storage, keep: Callable[[ManifestRow], bool]) -> dict[str, ManifestRow]:
    """Make the journal part of the manifest.

    Args:
        place: of the batch, which nobody else is writing to.
        keep: which rows are still true.

    Returns:
        The rows that are kept of requests, by hash, without their texts (`request`, `versions`, `environment`).
    """
    parts = sorted(name for name in place.names(JOURNAL) if name.endswith(".parquet") and not name.startswith("."))
    sources = ([MANIFEST] if place.exists(MANIFEST) else []) + [f"{JOURNAL}/{name}" for name in parts]

    def stream() -> Iterator[ManifestRow]:
        for source in sources:
            yield from _read(place, source)

    last: dict[str, tuple[str, int]] = {}
    for position, row in enumerate(stream()):
        last[row.key] = max(last.get(row.key, ("", 0)), (row.finished or "", position))
    kept: dict[str, ManifestRow] = {}

    def chosen() -> Iterator[ManifestRow]:
        for position, row in enumerate(stream()):
            if last[row.key][1] == position and keep(row):
                if row.hash is not None:
                    kept[row.hash] = row.model_copy(update={"request": None, "versions": None, "environment": None})
                yield row

    content = _encoded(_chunks(chosen()))
    if parts or len(kept) != len(last):
        place.write(MANIFEST, content)
    for name in parts:
        place.delete(f"{JOURNAL}/{name}")
    return kept


def read_manifest(url: str) -> list[ManifestRow]:
    """All rows of a batch's folder, those of a run that was killed or is still at work included."""
    place = Storage(url)
    sources = [MANIFEST] if place.exists(MANIFEST) else []
    sources += sorted(f"{JOURNAL}/{name}" for name in place.names(JOURNAL) if not name.startswith("."))
    rows: dict[str, ManifestRow] = {}
    for row in (row for source in sources for row in _read(place, source)):
        if row.key not in rows or (row.finished or "") >= (rows[row.key].finished or ""):
            rows[row.key] = row
    return list(rows.values())


def _schema() -> Any:
    import pyarrow

    kinds = {"line": pyarrow.int64(), "attempts": pyarrow.int64(), "seconds": pyarrow.float64()}
    return pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in ManifestRow.model_fields])


def _chunks(rows: Iterator[ManifestRow]) -> Iterator[list[ManifestRow]]:
    chunk: list[ManifestRow] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == ROWS_AT_ONCE:
            yield chunk
            chunk = []
    yield chunk


def _encoded(chunks: Iterable[Iterable[ManifestRow]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    schema = _schema()
    buffer = io.BytesIO()
    with pyarrow.parquet.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for chunk in chunks:
            writer.write_table(pyarrow.Table.from_pylist([row.model_dump() for row in chunk], schema=schema))
    return buffer.getvalue()


def _read(place: Storage, name: str) -> Iterator[ManifestRow]:
    import pyarrow
    import pyarrow.parquet

    content = place.read(name)
    try:
        for batch in pyarrow.parquet.ParquetFile(io.BytesIO(content)).iter_batches(ROWS_AT_ONCE):
            for values in batch.to_pylist():
                yield ManifestRow(**values)
    except (pyarrow.ArrowException, ValueError, KeyError) as error:
        raise StorageError(
            f"{place.path(name)!r} is damaged ({error}): delete it, and start again; pictures that are there stay"
        ) from None
