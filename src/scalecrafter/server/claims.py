"""The queue, from the side of the workers: claim a picture, send heartbeats, finish it; and recover lost pictures.

A claim is a row that names its worker and has a lease, which the worker renews. Every later statement of a worker has
its own name in the WHERE clause. So a worker that lost its claim (it hung, or the job was cancelled) changes nothing.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ..request.request import Request
from .database import Database, changed, count
from .records import DONE, FAILED, QUEUED, RUNNING, Claim, Failure, ModelFacts
from .store import end_rest

BUCKETS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds, in seconds, of the histogram of making a picture."""


@dataclass(frozen=True)
class FinishedPicture:
    """What a worker reports of a finished picture."""

    seconds: float
    bytes: int
    width: int
    height: int
    notes: tuple[str, ...] = ()
    """What was done to the picture that it was made from."""


_OLDEST = (
    "SELECT number FROM pictures JOIN jobs ON jobs.id = pictures.job WHERE status = ? "
    "AND (? OR jobs.model IN (SELECT value FROM json_each(?))) ORDER BY number LIMIT 1"
)


class Claims:
    """The queue, for one worker.

    Args:
        database: of the jobs.
        worker: its id.
        lease: seconds without a heartbeat after which the worker counts as hung.
        models: names and keys of the models that it serves; None: all.
    """

    def __init__(self, database: Database, worker: str, lease: float, models: Collection[str] | None = None) -> None:
        self.database, self.worker, self.lease = database, worker, lease
        self._all, self._models = models is None, json.dumps([*(models or ())])

    def claim(self) -> Claim | None:
        """Take the oldest waiting picture that this worker can make, if there is one."""
        waiting = (QUEUED, self._all, self._models)
        if self.database.row(_OLDEST, *waiting) is None:
            return None
        with self.database.writing() as connection:
            row = connection.execute(
                "UPDATE pictures SET status = ?, worker = ?, lease = ?, attempts = attempts + 1, step = 0 "
                f"WHERE number = ({_OLDEST}) RETURNING id, job, seed",
                (RUNNING, self.worker, time.time() + self.lease, *waiting),
            ).fetchone()
            if row is None:
                return None
            request = connection.execute("SELECT request FROM jobs WHERE id = ?", (row["job"],)).fetchone()["request"]
            changed(connection, row["job"])
        return Claim(row["id"], row["job"], Request.from_mapping({**json.loads(request), "seed": row["seed"]}))

    def progress(self, claim: Claim, step: int, steps: int, preview: bytes | None = None) -> bool:
        """Report the progress of a picture; the answer is whether it is still this worker's."""
        with self.database.writing(durable=False) as connection:
            updated = connection.execute(
                "UPDATE pictures SET step = ?, steps = ?, lease = ?, preview = coalesce(?, preview), "
                "preview_number = preview_number + ? WHERE id = ? AND worker = ? AND status = ?",
                (step, steps, time.time() + self.lease, preview, preview is not None, *self._mine(claim)),
            )
            if updated.rowcount:
                changed(connection, claim.job)
            return bool(updated.rowcount)

    def renew(self, claim: Claim) -> bool:
        """A heartbeat between steps; the answer is whether the picture is still this worker's."""
        with self.database.writing(durable=False) as connection:
            updated = connection.execute(
                "UPDATE pictures SET lease = ? WHERE id = ? AND worker = ? AND status = ?",
                (time.time() + self.lease, *self._mine(claim)),
            )
            return bool(updated.rowcount)

    def finish(self, claim: Claim, made: FinishedPicture) -> bool:
        """Mark a picture as done when its file is in place; False if it was no longer this worker's."""
        with self.database.writing() as connection:
            updated = connection.execute(
                "UPDATE pictures SET status = ?, worker = NULL, preview = NULL, step = steps, seconds = ?, bytes = ?, "
                "width = ?, height = ?, notes = ?, finished = ? WHERE id = ? AND worker = ? AND status = ?",
                (
                    *(DONE, made.seconds, made.bytes, made.width, made.height),
                    *(json.dumps(made.notes), time.time(), *self._mine(claim)),
                ),
            )
            if updated.rowcount:
                count(connection, "done")
                count(connection, "seconds", made.seconds)
                for bound in BUCKETS:
                    count(connection, f"within {bound}", float(made.seconds <= bound))
                changed(connection, claim.job)
            return bool(updated.rowcount)

    def fail(self, claim: Claim, failure: Failure) -> None:
        """Give a picture up, and the rest of its job."""
        with self.database.writing() as connection:
            _fail(connection, claim.picture, claim.job, failure, self.worker)

    def give_back(self, claim: Claim) -> None:
        """Put a picture back into its old place in the queue; this does not count as an attempt."""
        with self.database.writing() as connection:
            updated = connection.execute(
                "UPDATE pictures SET status = ?, worker = NULL, preview = NULL, attempts = attempts - 1 "
                "WHERE id = ? AND worker = ? AND status = ?",
                (QUEUED, *self._mine(claim)),
            )
            if updated.rowcount:
                changed(connection, claim.job)

    def is_wanted(self, claim: Claim) -> bool:
        """Whether anyone (this worker or another) may still need the file of a picture."""
        row = self.database.row("SELECT status FROM pictures WHERE id = ?", claim.picture)
        return row is not None and row["status"] in (QUEUED, RUNNING, DONE)

    def heartbeat(self, ready: bool) -> None:
        """A heartbeat of the worker itself.

        Args:
            ready: whether it has a model loaded.
        """
        with self.database.writing(durable=False) as connection:
            connection.execute(
                "INSERT INTO workers VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, "
                "ready = excluded.ready",
                (self.worker, time.time(), int(ready), self._models),
            )

    def leave(self) -> None:
        """The worker ends."""
        with self.database.writing(durable=False) as connection:
            connection.execute("DELETE FROM workers WHERE id = ?", (self.worker,))

    def publish_facts(self, model: str, facts: ModelFacts) -> None:
        """Store the facts of a model, by its key."""
        with self.database.writing(durable=False) as connection:
            connection.execute(
                "INSERT INTO models VALUES (?, ?) ON CONFLICT (model) DO UPDATE SET facts = excluded.facts",
                (model, facts.model_dump_json()),
            )

    def _mine(self, claim: Claim) -> tuple[str, str, str]:
        return claim.picture, self.worker, RUNNING


def recover(database: Database, is_dead: Callable[[str], bool], attempts: int) -> int:
    """Queue the pictures of dead and hung workers again; the answer is how many.

    Args:
        database: of the jobs.
        is_dead: whether the worker with that id has ended. A hung worker shows by its lease.
        attempts: a picture that was tried so often is given up: it seems to kill the workers.
    """
    now = time.time()
    running = database.rows("SELECT id, job, worker, lease FROM pictures WHERE status = ?", RUNNING)
    lost = [row for row in running if row["lease"] < now or is_dead(row["worker"])]
    for row in lost:
        with database.writing() as connection:
            current = connection.execute(
                "SELECT attempts FROM pictures WHERE id = ? AND worker = ? AND status = ? AND lease = ?",
                (row["id"], row["worker"], RUNNING, row["lease"]),
            ).fetchone()
            if current is None:  # it moved on in the meantime
                continue
            if current["attempts"] >= attempts:
                message = f"given up: {attempts} times the worker died or hung while making it"
                _fail(connection, row["id"], row["job"], Failure(message, False), row["worker"])
            else:
                connection.execute(
                    "UPDATE pictures SET status = ?, worker = NULL, preview = NULL WHERE id = ?", (QUEUED, row["id"])
                )
                count(connection, "requeued")
                changed(connection, row["job"])
    for row in database.rows("SELECT id FROM workers"):
        if is_dead(row["id"]):
            with database.writing(durable=False) as connection:
                connection.execute("DELETE FROM workers WHERE id = ?", (row["id"],))
    return len(lost)


def unserved(database: Database, served: Collection[str]) -> dict[str, list[str]]:
    """The jobs that wait for a model that nobody serves: model key → ids.

    Args:
        database: of the jobs.
        served: names and keys of the models of one server. Those of living workers are added.
    """
    keys = {*served}.union(*(json.loads(row["models"]) for row in database.rows("SELECT models FROM workers")))
    found: dict[str, list[str]] = {}
    for row in database.rows(
        "SELECT DISTINCT jobs.id, jobs.model FROM jobs JOIN pictures ON jobs.id = pictures.job WHERE status = ?", QUEUED
    ):
        if row["model"] not in keys:
            found.setdefault(row["model"], []).append(row["id"])
    return found


def give_up(database: Database, job: str, message: str) -> None:
    """Let the waiting pictures of a job fail."""
    with database.writing() as connection:
        connection.execute(
            "UPDATE pictures SET status = ?, error = ?, clients_fault = 0, finished = ? WHERE job = ? AND status = ?",
            (FAILED, message, time.time(), job, QUEUED),
        )
        count(connection, "failed")
        changed(connection, job)


def _fail(connection: sqlite3.Connection, picture: str, job: str, failure: Failure, worker: str) -> None:
    updated = connection.execute(
        "UPDATE pictures SET status = ?, worker = NULL, preview = NULL, error = ?, clients_fault = ?, finished = ? "
        "WHERE id = ? AND worker = ? AND status = ?",
        (FAILED, failure.message, failure.is_clients, time.time(), picture, worker, RUNNING),
    )
    if updated.rowcount:
        count(connection, "refused" if failure.is_clients else "failed")
        end_rest(connection, job)
        changed(connection, job)
