"""The rows of a batch, one per request, in Parquet files that survive a crash.

    manifest.parquet        all rows of earlier runs; manifest.csv has them for people
    journal/*.parquet       the rows since then: each file is written whole

The journal becomes part of the manifest when a run ends, or when the next one starts. If a hash is in several rows, the
last row counts. So a crash after the manifest was written, and before the journal was removed, does no harm.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Literal

from pydantic import BaseModel, ConfigDict

from .storage import Storage, StorageError

MANIFEST = "manifest.parquet"
TABLE = "manifest.csv"
"""The manifest for people and spreadsheets, with some of each request's values in columns of their own."""
_SHOWN = ("prompt", "negative", "model", "method", "width", "height", "steps", "guidance", "seed")
JOURNAL = "journal"
PARTS = 256
"""When one writer has so many files in the journal, they are merged into one."""
ROWS_AT_ONCE = 10_000


class ManifestRow(BaseModel):
    """The result of one line of a jobs file."""

    model_config = ConfigDict(frozen=True)

    hash: str | None
    """`Request.digest` of the settled request; None for a line that is no request."""
    line: int
    """The number of its first line in the file (of Parquet, its row), from 1."""
    request: str | None
    """The settled request as JSON; None for a line that is none."""
    status: Literal["made", "failed"]
    file: str | None = None
    """Of the picture, relative to the folder."""
    seconds: float | None = None
    """Its own share, if several pictures were made together."""
    attempts: int = 0
    """How often it was tried."""
    error: str | None = None
    versions: str | None = None
    """Of the packages that made it, as JSON."""
    environment: str | None = None
    """Device, dtype and scheduler, as JSON."""
    worker: str | None = None
    """Host and process."""
    finished: str | None = None
    """When, in UTC."""
    columns: str | None = None
    """Columns of its line that are no settings, as JSON."""

    @property
    def key(self) -> str:
        """There is one row for each key."""
        return self.hash or f"line {self.line}"


class Journal:
    """The rows that one process writes."""

    def __init__(self, storage: Storage, writer: str, most_parts: int = PARTS) -> None:
        """Start a journal.

        Args:
            storage: of the batch.
            writer: a name that no other process uses.
            most_parts: so many files are merged into one.
        """
        self._storage = storage
        self._writer = f"{time.time_ns():020d}-{writer}"
        self._most_parts = most_parts
        self._parts: list[str] = []
        self._count = 0

    def add(self, rows: Iterable[ManifestRow]) -> None:
        """Write rows; after this they survive a crash (`StorageError`)."""
        self._parts.append(self._write(rows))
        if len(self._parts) >= self._most_parts:
            self._write([row for part in self._parts for row in _read(self._storage, part)])
            for part in self._parts:
                self._storage.delete(part)
            self._parts = []

    def _write(self, rows: Iterable[ManifestRow]) -> str:
        self._count += 1
        name = f"{JOURNAL}/{self._writer}-{self._count:08d}.parquet"
        self._storage.write(name, _encoded([rows]))
        return name


def writer_name() -> str:
    """A name for a process's journal."""
    return secrets.token_hex(4)


def compact(storage: Storage, keep: Callable[[ManifestRow], bool]) -> dict[str, ManifestRow]:
    """Move the journal into the manifest.

    Args:
        storage: of the batch; no other process writes to it now.
        keep: whether a row still counts.

    Returns:
        The kept rows that have a request, by hash, without `request`, `columns`, `versions` and `environment`.
    """
    parts = sorted(name for name in storage.names(JOURNAL) if name.endswith(".parquet") and not name.startswith("."))
    sources = ([MANIFEST] if storage.exists(MANIFEST) else []) + [f"{JOURNAL}/{name}" for name in parts]

    def stream() -> Iterator[ManifestRow]:
        for source in sources:
            yield from _read(storage, source)

    last: dict[str, tuple[str, int]] = {}
    for position, row in enumerate(stream()):
        last[row.key] = max(last.get(row.key, ("", 0)), (row.finished or "", position))
    kept: dict[str, ManifestRow] = {}

    def chosen() -> Iterator[ManifestRow]:
        for position, row in enumerate(stream()):
            if last[row.key][1] == position and keep(row):
                if row.hash is not None:
                    kept[row.hash] = row.model_copy(
                        update={"request": None, "columns": None, "versions": None, "environment": None}
                    )
                yield row

    table = io.StringIO()
    content = _encoded(_chunks(_also_as_csv(chosen(), table)))
    if parts or len(kept) != len(last):
        storage.write(MANIFEST, content)
    if sources and (parts or len(kept) != len(last) or not storage.exists(TABLE)):
        storage.write(TABLE, table.getvalue().encode("utf-8-sig"))  # so that spreadsheets know its encoding
    for name in parts:
        storage.delete(f"{JOURNAL}/{name}")
    return kept


def read_manifest(url: str) -> list[ManifestRow]:
    """All rows of a batch's folder, with those of a run that was killed or still works."""
    storage = Storage(url)
    sources = [MANIFEST] if storage.exists(MANIFEST) else []
    sources += sorted(f"{JOURNAL}/{name}" for name in storage.names(JOURNAL) if not name.startswith("."))
    rows: dict[str, ManifestRow] = {}
    for row in (row for source in sources for row in _read(storage, source)):
        if row.key not in rows or (row.finished or "") >= (rows[row.key].finished or ""):
            rows[row.key] = row
    return list(rows.values())


def _also_as_csv(rows: Iterator[ManifestRow], file: IO[str]) -> Iterator[ManifestRow]:
    """The rows, each written as a line of CSV on its way."""
    own = [name for name in ManifestRow.model_fields if name not in ("request", "columns", "versions", "environment")]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*own, *_SHOWN, "columns", "request"])
    for row in rows:
        request = json.loads(row.request) if row.request else {}
        writer.writerow([
            *(getattr(row, name) for name in own), *(request.get(name) for name in _SHOWN), row.columns, row.request,
        ])  # fmt: skip
        yield row


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


def _read(storage: Storage, name: str) -> Iterator[ManifestRow]:
    import pyarrow
    import pyarrow.parquet

    content = storage.read(name)
    try:
        for batch in pyarrow.parquet.ParquetFile(io.BytesIO(content)).iter_batches(ROWS_AT_ONCE):
            for values in batch.to_pylist():
                yield ManifestRow(**values)
    except (pyarrow.ArrowException, ValueError, KeyError) as error:
        raise StorageError(
            f"{storage.path(name)!r} is damaged ({error}): delete it, and start again; pictures that are there stay"
        ) from None
