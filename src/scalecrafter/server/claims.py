"""The queue, as workers see it: claiming a picture, sending heartbeats, finishing, and what the dead left behind.

A claim is a row that names its worker and holds a lease, which the worker renews.  Every later statement of a worker
names itself in its WHERE, so one whose claim was taken from it (it hung, or the job was cancelled) changes nothing.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..request.request import Request
from .database import Database, changed, count
from .records import DONE, FAILED, QUEUED, RUNNING, Claim, Failure, ModelFacts
from .store import end_rest

BUCKETS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds, in seconds, of the histogram of making a picture."""


@dataclass(frozen=True)
class FinishedPicture:
    """What a worker tells of a finished picture."""

    seconds: float
    bytes: int
    width: int
    height: int


class Claims:
    """The queue in the hands of one worker."""

    def __init__(self, database: Database, worker: str, lease: float) -> None:
        self.database, self.worker, self.lease = database, worker, lease

    def claim(self) -> Claim | None:
        """Take the oldest picture that waits; None if none does."""
        if self.database.row("SELECT 1 FROM pictures WHERE status = ? LIMIT 1", QUEUED) is None:
            return None
        with self.database.writing() as connection:
            row = connection.execute(
                "UPDATE pictures SET status = ?, worker = ?, lease = ?, attempts = attempts + 1, step = 0 "
                "WHERE number = (SELECT number FROM pictures WHERE status = ? ORDER BY number LIMIT 1) "
                "RETURNING id, job, seed",
                (RUNNING, self.worker, time.time() + self.lease, QUEUED),
            ).fetchone()
            if row is None:
                return None
            request = connection.execute("SELECT request FROM jobs WHERE id = ?", (row["job"],)).fetchone()["request"]
            changed(connection, row["job"])
        return Claim(row["id"], row["job"], Request.from_mapping({**json.loads(request), "seed": row["seed"]}))

    def progress(self, claim: Claim, step: int, steps: int, preview: bytes | None = None) -> bool:
        """Tell how far a picture is; whether it is still this worker's."""
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
        """A heartbeat between steps; whether the picture is still this worker's."""
        with self.database.writing(durable=False) as connection:
            updated = connection.execute(
                "UPDATE pictures SET lease = ? WHERE id = ? AND worker = ? AND status = ?",
                (time.time() + self.lease, *self._mine(claim)),
            )
            return bool(updated.rowcount)

    def finish(self, claim: Claim, made: FinishedPicture) -> bool:
        """Mark a picture as done, its file being in place; False if it was no longer this worker's."""
        with self.database.writing() as connection:
            updated = connection.execute(
                "UPDATE pictures SET status = ?, worker = NULL, preview = NULL, step = steps, seconds = ?, bytes = ?, "
                "width = ?, height = ?, finished = ? WHERE id = ? AND worker = ? AND status = ?",
                (DONE, made.seconds, made.bytes, made.width, made.height, time.time(), *self._mine(claim)),
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
        """Put a picture back into its place in the queue; it does not count as an attempt."""
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

    def tell(self, ready: bool) -> None:
        """A heartbeat of the worker itself."""
        with self.database.writing(durable=False) as connection:
            connection.execute(
                "INSERT INTO workers VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, "
                "ready = excluded.ready",
                (self.worker, time.time(), int(ready)),
            )

    def leave(self) -> None:
        """The worker ends."""
        with self.database.writing(durable=False) as connection:
            connection.execute("DELETE FROM workers WHERE id = ?", (self.worker,))

    def tell_facts(self, model: str, facts: ModelFacts) -> None:
        """What is known of a model."""
        with self.database.writing(durable=False) as connection:
            connection.execute(
                "INSERT INTO models VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET facts = excluded.facts",
                (model, facts.model_dump_json()),
            )

    def _mine(self, claim: Claim) -> tuple[str, str, str]:
        return claim.picture, self.worker, RUNNING


def recover(database: Database, is_dead: Callable[[str], bool], attempts: int) -> int:
    """Queue again what dead and hung workers were at; how many pictures.

    Args:
        is_dead: whether the worker of that id is known to have ended; hung ones are told by their lease.
        attempts: after so many, a picture is given up: it seems to be what the workers die of.
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
