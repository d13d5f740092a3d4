"""The SQLite file of the jobs: its tables, and transactions on it.

It has a write-ahead log, so readers and the writer do not wait for each other. A durable transaction is on the disk
when it returns. Others (progress) can be lost in a power cut, but not when a process dies.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import ScaleCrafterError

VERSION = 3
_SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    created REAL NOT NULL,
    request TEXT NOT NULL,           -- JSON; its pictures are names in the uploads
    repeat_key TEXT UNIQUE,          -- of submissions that may arrive twice
    change INTEGER NOT NULL,         -- number of the last change to the job or its pictures
    model TEXT NOT NULL,             -- ServerSettings.model_key, or of version 1 the model's name
    key TEXT NOT NULL DEFAULT '',    -- whose it is: records.Client
    client TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX jobs_by_change ON jobs (change);
CREATE INDEX jobs_by_client ON jobs (key, client);
CREATE TABLE pictures (
    number INTEGER PRIMARY KEY AUTOINCREMENT,    -- the order of the queue
    id TEXT NOT NULL UNIQUE,
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    status TEXT NOT NULL,
    worker TEXT,
    lease REAL,                      -- the worker counts as hung after this time
    attempts INTEGER NOT NULL DEFAULT 0,
    step INTEGER NOT NULL DEFAULT 0,
    steps INTEGER NOT NULL DEFAULT 0,
    preview BLOB,                    -- JPEG
    preview_number INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    clients_fault INTEGER,
    seconds REAL,
    bytes INTEGER,
    width INTEGER,
    height INTEGER,
    finished REAL,
    notes TEXT NOT NULL DEFAULT '[]' -- JSON list of what was done to the image that it starts from
) STRICT;
CREATE INDEX pictures_by_job ON pictures (job, position);
CREATE INDEX pictures_by_status ON pictures (status, number);
CREATE TABLE uploads (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name TEXT NOT NULL
) STRICT;
CREATE INDEX uploads_by_name ON uploads (name);
CREATE INDEX uploads_by_job ON uploads (job);
CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    seen REAL NOT NULL,
    ready INTEGER NOT NULL,
    models TEXT NOT NULL             -- JSON list of the model keys that it serves
) STRICT;
CREATE TABLE models (model TEXT PRIMARY KEY, facts TEXT NOT NULL) STRICT;
CREATE TABLE totals (
    name TEXT PRIMARY KEY,
    value REAL NOT NULL              -- since the store was made, for /metrics
) STRICT;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO counters VALUES ('change', 0);
"""
_FROM_VERSION_1 = """
ALTER TABLE jobs ADD COLUMN model TEXT NOT NULL DEFAULT '';
UPDATE jobs SET model = json_extract(request, '$.model');
DROP TABLE models;
CREATE TABLE models (model TEXT PRIMARY KEY, facts TEXT NOT NULL) STRICT;
DELETE FROM workers;
ALTER TABLE workers ADD COLUMN models TEXT NOT NULL DEFAULT '[]';
"""
_FROM_VERSION_2 = """
ALTER TABLE jobs ADD COLUMN key TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN client TEXT NOT NULL DEFAULT '';
ALTER TABLE pictures ADD COLUMN notes TEXT NOT NULL DEFAULT '[]';
CREATE INDEX jobs_by_client ON jobs (key, client);
"""
_STEPS = {0: (_SCHEMA,), 1: (_FROM_VERSION_1, _FROM_VERSION_2), 2: (_FROM_VERSION_2,)}
"""Version of a store → what brings it to the present one."""


class StoreError(ScaleCrafterError):
    """A store that cannot be used."""


class Database:
    """One connection, which threads take turns at; every process has its own. Only this user can read the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.RLock()
        try:
            _make_private(path)
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            mode = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise StoreError(
                    f"the store {str(path)!r} cannot have a write-ahead log: name a folder on a local disk"
                )
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot use the store {str(path)!r}: {error}; name another folder with --data") from None

    @contextmanager
    def writing(self, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it happens, or (if the block raises) nothing."""
        with self._turn:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """What a query finds."""
        with self._turn:
            return self._connection.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        """The first of what a query finds."""
        found = self.rows(query, *values)
        return found[0] if found else None

    def bytes_used(self) -> int:
        """Of the file, without the pages that wait to be used again."""
        pages, free, size = (
            self.rows(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def close(self) -> None:
        """Let go of the file."""
        with self._turn:
            self._connection.close()

    def _prepare(self) -> None:
        with self.writing() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == VERSION:
                return
            if version > VERSION:
                raise StoreError(
                    f"the store {str(self.path)!r} is of version {version}, and this scalecrafter reads {VERSION}: "
                    "name another folder with --data"
                )
            for statement in "".join(_STEPS[version]).split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")


def _make_private(path: Path) -> None:
    """Let only this user read the file and its log; SQLite gives the log the mode of the file."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        with suppress(FileNotFoundError, PermissionError):  # another user's, who shares it on purpose
            path.with_name(name).chmod(0o600)


def changed(connection: sqlite3.Connection, job: str) -> None:
    """Number a change to a job, within the transaction that makes it, so that watchers find it."""
    number = connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'change' RETURNING value")
    connection.execute("UPDATE jobs SET change = ? WHERE id = ?", (number.fetchone()[0], job))


def count(connection: sqlite3.Connection, name: str, amount: float = 1.0) -> None:
    """Add to one of the totals, within the transaction of what is counted."""
    connection.execute(
        "INSERT INTO totals VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        (name, amount),
    )
