"""The jobs of a server, as those see them who ask for pictures.

*Accepted means kept*: `add` returns when the job is on the disk.  Knows nothing of HTTP; the workers' side is `claims`.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Sequence

from ..request.request import LARGEST_SEED, Request
from .database import Database, changed, count
from .records import CANCELLED, QUEUED, RUNNING, ModelFacts, QueuedPicture, ServerJob

_PICTURE = (
    "id, position, seed, status, step, steps, preview_number, error, clients_fault, seconds, width, height, number"
)


class QueueFullError(Exception):
    """No place in the queue."""

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(f"the queue is full: {waiting} of {limit} pictures wait; try again later")


class UnknownJobError(Exception):
    """No job of that id; it never was, or its time is over."""

    def __init__(self, job: str) -> None:
        super().__init__(f"there is no job {job!r}: it never was, or was removed after its time")


class Store:
    """What can be asked of the jobs; any number of threads and processes may do so at once."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(
        self, request: Request, pictures: int, limit: int, uploads: Sequence[str] = (), repeat_key: str | None = None
    ) -> tuple[str, bool]:
        """Accept a job: when this returns, it is on the disk.

        Args:
            request: settled as far as the server can; its seed is that of the first picture, the next ones follow on.
            pictures: how many.
            limit: of pictures that wait (`QueueFullError`); a job is taken whole or not at all.
            uploads: names of the uploads that the request starts from.
            repeat_key: if a job was added with it before, that job is the answer.

        Returns:
            The job's id, and whether it is new.
        """
        job = secrets.token_hex(16)
        first = secrets.randbelow(2**32) if request.seed is None else request.seed
        request = request.changed(seed=first)
        with self.database.writing() as connection:
            if repeat_key is not None:
                found = connection.execute("SELECT id FROM jobs WHERE repeat_key = ?", (repeat_key,)).fetchone()
                if found:
                    return str(found["id"]), False
            waiting = _waiting(connection)
            if waiting + pictures > limit:
                raise QueueFullError(waiting, limit)
            connection.execute(
                "INSERT INTO jobs VALUES (?, ?, ?, ?, 0)", (job, time.time(), request.model_dump_json(), repeat_key)
            )
            connection.executemany("INSERT INTO uploads VALUES (?, ?)", [(job, name) for name in uploads])
            for position in range(pictures):
                seed = (first + position) % (LARGEST_SEED + 1)
                connection.execute(
                    "INSERT INTO pictures (id, job, position, seed, status) VALUES (?, ?, ?, ?, ?)",
                    (secrets.token_hex(16), job, position, seed, QUEUED),
                )
            count(connection, "accepted", pictures)
            changed(connection, job)
        return job, True

    def job(self, job: str) -> ServerJob:
        """A job as it is now (`UnknownJobError`)."""
        row = self.database.row("SELECT * FROM jobs WHERE id = ?", job)
        if row is None:
            raise UnknownJobError(job)
        rows = self.database.rows(f"SELECT {_PICTURE} FROM pictures WHERE job = ? ORDER BY position", job)
        first = next((picture["number"] for picture in rows if picture["status"] == QUEUED), None)
        ahead = 0
        if first is not None:
            query = "SELECT count(*) AS n FROM pictures WHERE status = ? AND number < ?"
            ahead = self.database.rows(query, QUEUED, first)[0]["n"]
        pictures = tuple(QueuedPicture.from_row(picture) for picture in rows)
        return ServerJob(row["id"], row["created"], Request.from_mapping(json.loads(row["request"])), pictures, ahead)

    def cancel(self, job: str) -> None:
        """End what is not finished of a job; a running picture stops at its next step (`UnknownJobError`)."""
        with self.database.writing() as connection:
            if connection.execute("SELECT 1 FROM jobs WHERE id = ?", (job,)).fetchone() is None:
                raise UnknownJobError(job)
            end_rest(connection, job)
            changed(connection, job)

    def preview(self, picture: str) -> bytes | None:
        """The latest preview of a picture that is being made, as JPEG."""
        row = self.database.row("SELECT preview FROM pictures WHERE id = ?", picture)
        return None if row is None else row["preview"]

    def changes(self, since: int) -> tuple[int, frozenset[str]]:
        """The number of the latest change, and the jobs that changed after the one numbered `since`."""
        rows = self.database.rows("SELECT id, change FROM jobs WHERE change > ?", since)
        return max((row["change"] for row in rows), default=since), frozenset(row["id"] for row in rows)

    def waiting(self) -> int:
        """Pictures in the queue."""
        return self.counted(QUEUED)

    def counted(self, status: str) -> int:
        """Pictures of that status."""
        rows = self.database.rows("SELECT count(*) AS n FROM pictures WHERE status = ?", status)
        return int(rows[0]["n"])

    def totals(self) -> dict[str, float]:
        """What was counted since the store was made."""
        return {row["name"]: row["value"] for row in self.database.rows("SELECT * FROM totals")}

    def ready_workers(self, within: float) -> int:
        """Workers that have loaded a model and gave a sign in the last `within` seconds."""
        query = "SELECT count(*) AS n FROM workers WHERE ready = 1 AND seen > ?"
        return int(self.database.rows(query, time.time() - within)[0]["n"])

    def facts(self, model: str) -> ModelFacts | None:
        """What a worker has told of a model; None before one has."""
        row = self.database.row("SELECT facts FROM models WHERE name = ?", model)
        return None if row is None else ModelFacts.model_validate_json(row["facts"])

    def seconds_a_picture(self) -> float | None:
        """The mean of the last pictures that were made."""
        rows = self.database.rows(
            "SELECT avg(seconds) AS mean FROM (SELECT seconds FROM pictures WHERE status = 'done' "
            "ORDER BY finished DESC LIMIT 20)"
        )
        return None if rows[0]["mean"] is None else float(rows[0]["mean"])


def end_rest(connection: sqlite3.Connection, job: str, statuses: Sequence[str] = (QUEUED, RUNNING)) -> None:
    """Cancel the pictures of a job that are not finished; their workers find that they are no longer wanted."""
    marks = ", ".join("?" * len(statuses))
    ended = connection.execute(
        f"UPDATE pictures SET status = ?, worker = NULL, preview = NULL, finished = ? "
        f"WHERE job = ? AND status IN ({marks})",
        (CANCELLED, time.time(), job, *statuses),
    )
    count(connection, "cancelled", ended.rowcount)


def _waiting(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM pictures WHERE status = ?", (QUEUED,)).fetchone()[0])
