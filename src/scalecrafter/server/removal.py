"""Remove jobs and pictures for good: their rows, then their files."""

from __future__ import annotations

from collections.abc import Sequence

from .database import Database, changed
from .folders import Folders
from .store import UnknownJobError


def remove_job(database: Database, folders: Folders, job: str) -> None:
    """Remove a job with its pictures and uploads. A picture that is being made stops at its next step."""
    pictures = [row["id"] for row in database.rows("SELECT id FROM pictures WHERE job = ?", job)]
    uploads = [row["name"] for row in database.rows("SELECT name FROM uploads WHERE job = ?", job)]
    with database.writing() as connection:
        connection.execute("DELETE FROM jobs WHERE id = ?", (job,))
    _remove_pictures(folders, pictures)
    for upload in uploads:
        remove_upload(database, folders, upload)


def remove_picture(database: Database, folders: Folders, job: str, position: int) -> None:
    """Remove one picture of a job, and with its last one the job (`UnknownJobError`)."""
    with database.writing() as connection:
        removed = connection.execute(
            "DELETE FROM pictures WHERE job = ? AND position = ? RETURNING id", (job, position)
        ).fetchone()
        if removed is None:
            raise UnknownJobError(f"{job}/pictures/{position}")
        is_last = connection.execute("SELECT 1 FROM pictures WHERE job = ? LIMIT 1", (job,)).fetchone() is None
        changed(connection, job)
    _remove_pictures(folders, [removed["id"]])
    if is_last:
        remove_job(database, folders, job)


def remove_upload(database: Database, folders: Folders, name: str) -> None:
    """Remove an upload unless a job names it."""
    with database.writing(durable=False):  # so that no job begins to name it meanwhile
        if database.row("SELECT 1 FROM uploads WHERE name = ? LIMIT 1", name) is None:
            folders.upload(name).unlink(missing_ok=True)


def _remove_pictures(folders: Folders, pictures: Sequence[str]) -> None:
    for picture in pictures:
        folders.picture(picture).unlink(missing_ok=True)
