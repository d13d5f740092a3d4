"""The jobs, from the side of the clients. The side of the workers is `claims`.

*Accepted means kept*: `add` returns when the job is on the disk.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

from ..request.request import LARGEST_SEED, Request, RequestError
from .database import Database, changed, count
from .records import CANCELLED, NOBODY, QUEUED, RUNNING, Client, ModelFacts, QueuedPicture, ServerJob

_PICTURE = (
    "id, position, seed, status, step, steps, preview_number, error, clients_fault, seconds, width, height, notes, "
    "number"
)


_NEWEST = 1 << 62
"""Beyond every row."""


class QueueFullError(Exception):
    """The queue is full."""

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(f"the queue is full: {waiting} of {limit} pictures wait; try again later")


class UnknownJobError(Exception):
    """There is no job with that id."""

    def __init__(self, job: str) -> None:
        super().__init__(f"there is no job {job!r}: it does not exist, or has expired")


class Store:
    """The jobs of one data folder. Many threads and processes may use it at once.

    Args:
        database: of the folder.
        models: name → key (`ServerSettings.model_keys`) of the models that this server serves. What is counted as
            waiting or ready is counted for these.
    """

    def __init__(self, database: Database, models: Mapping[str, str] = MappingProxyType({})) -> None:
        self.database, self.models = database, models
        self._known = json.dumps([*models, *models.values()])

    def add(
        self,
        request: Request,
        pictures: int,
        limit: int,
        uploads: Sequence[str] = (),
        repeat_key: str | None = None,
        write_uploads: Callable[[], None] = lambda: None,
        client: Client = NOBODY,
    ) -> tuple[str, bool]:
        """Accept a job: when this returns, it is on the disk.

        Args:
            request: settled as far as the server can. Its seed is the seed of the first picture; the others count up.
            pictures: how many.
            limit: of waiting pictures. A job is accepted as a whole or not at all.
            uploads: names of the uploads that the request starts from.
            repeat_key: if a job has this key already, that job is the answer.
            write_uploads: writes the uploads. It is called only if the job is accepted.
            client: whose job it is.

        Returns:
            The job's id, and whether it is new.

        Raises:
            QueueFullError: nothing was kept.
        """
        job = secrets.token_hex(16)
        first = secrets.randbelow(2**32) if request.seed is None else request.seed
        request = request.changed(seed=first)
        with self.database.writing() as connection:
            if repeat_key is not None:
                found = connection.execute("SELECT id FROM jobs WHERE repeat_key = ?", (repeat_key,)).fetchone()
                if found:
                    return str(found["id"]), False
            waiting = self.waiting()
            if waiting + pictures > limit:
                raise QueueFullError(waiting, limit)
            write_uploads()
            connection.execute(
                "INSERT INTO jobs (id, created, request, repeat_key, change, model, key, client) "
                "VALUES (?, ?, ?, ?, 0, ?, ?, ?)",
                (
                    *(job, time.time(), request.model_dump_json(), repeat_key, self._key(request.model)),
                    *(client.key, client.name),
                ),
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
        return self._job(row)

    def newest(self, client: Client, limit: int, after: str | None = None) -> list[ServerJob]:
        """A client's jobs, newest first.

        Args:
            client: one with a key and no name has all jobs of its key; one without both, those of nobody in particular.
            limit: the most.
            after: only jobs that are older than this one (`UnknownJobError`).
        """
        mine, values = "key = ?", [client.key]
        if client.name or not client.key:
            mine, values = "key = ? AND client = ?", [client.key, client.name]
        below = _NEWEST
        if after is not None:
            last = self.database.row("SELECT rowid FROM jobs WHERE id = ?", after)
            if last is None:
                raise UnknownJobError(after)
            below = int(last["rowid"])
        found: list[ServerJob] = []
        query = f"SELECT rowid, * FROM jobs WHERE {mine} AND rowid < ? ORDER BY rowid DESC LIMIT ?"
        while len(found) < limit and (rows := self.database.rows(query, *values, below, limit - len(found))):
            for row in rows:
                with suppress(RequestError):  # of a version that could make what this one cannot
                    found.append(self._job(row))
            below = rows[-1]["rowid"]
        return found

    def _job(self, row: sqlite3.Row) -> ServerJob:
        rows = self.database.rows(f"SELECT {_PICTURE} FROM pictures WHERE job = ? ORDER BY position", row["id"])
        first = next((picture["number"] for picture in rows if picture["status"] == QUEUED), None)
        ahead = 0
        if first is not None:
            ahead = self._count(QUEUED, "AND number < ?", first)
        pictures = tuple(QueuedPicture.from_row(picture) for picture in rows)
        return ServerJob(row["id"], row["created"], Request.from_mapping(json.loads(row["request"])), pictures, ahead)

    def cancel(self, job: str) -> None:
        """Cancel the unfinished pictures of a job; a running one stops at its next step (`UnknownJobError`)."""
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
        return self._count(QUEUED)

    def running(self) -> int:
        """Pictures that are being made."""
        return self._count(RUNNING)

    def totals(self) -> dict[str, float]:
        """The counts since the store was made."""
        return {row["name"]: row["value"] for row in self.database.rows("SELECT * FROM totals")}

    def ready_workers(self, within: float) -> int:
        """Workers that have a model loaded and sent a heartbeat in the last `within` seconds."""
        rows = self.database.rows("SELECT models FROM workers WHERE ready = 1 AND seen > ?", time.time() - within)
        served = set(self.models.values())
        return sum(not served or not served.isdisjoint(json.loads(row["models"])) for row in rows)

    def facts(self, model: str) -> ModelFacts | None:
        """What the workers know of a model; None until a worker has looked."""
        row = self.database.row("SELECT facts FROM models WHERE model = ?", self._key(model))
        return None if row is None else ModelFacts.model_validate_json(row["facts"])

    def seconds_a_picture(self) -> float | None:
        """The mean over the last pictures."""
        rows = self.database.rows(
            "SELECT avg(seconds) AS mean FROM (SELECT seconds FROM pictures WHERE status = 'done' "
            "ORDER BY finished DESC LIMIT 20)"
        )
        return None if rows[0]["mean"] is None else float(rows[0]["mean"])

    def _key(self, model: str) -> str:
        return self.models.get(model, model)

    def _count(self, status: str, condition: str = "", *values: object) -> int:
        """Pictures with that status, of the models that this server serves."""
        query = (
            "SELECT count(*) AS n FROM pictures JOIN jobs ON jobs.id = pictures.job WHERE pictures.status = ? "
            f"AND (? OR jobs.model IN (SELECT value FROM json_each(?))) {condition}"
        )
        return int(self.database.rows(query, status, not self.models, self._known, *values)[0]["n"])


def end_rest(connection: sqlite3.Connection, job: str, statuses: Sequence[str] = (QUEUED, RUNNING)) -> None:
    """Cancel the unfinished pictures of a job. Their workers find out at the next step."""
    marks = ", ".join("?" * len(statuses))
    ended = connection.execute(
        f"UPDATE pictures SET status = ?, worker = NULL, preview = NULL, finished = ? "
        f"WHERE job = ? AND status IN ({marks})",
        (CANCELLED, time.time(), job, *statuses),
    )
    count(connection, "cancelled", ended.rowcount)
