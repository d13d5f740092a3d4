"""What is removed, when, and what is left alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from scalecrafter.request.request import Request
from scalecrafter.server.claims import Claims, FinishedPicture
from scalecrafter.server.housekeeping import Housekeeper
from scalecrafter.server.jobs import Jobs
from scalecrafter.server.settings import ServerSettings
from scalecrafter.server.store import UnknownJobError

SIZE = 1 << 20


class Kept:
    """A data folder with pictures that were never really made: only their files and rows matter here."""

    def __init__(self, data: Path, **settings: float) -> None:
        self.settings = ServerSettings.model_validate({"data": data, "models": {"tiny": "x"}, **settings})
        self.jobs = Jobs(self.settings)
        self.housekeeper = Housekeeper(self.settings, self.jobs.folders, self.jobs.store.database)

    def made(self, hours_ago: float = 0.0, pictures: int = 1, image: str | None = None) -> str:
        """A finished job."""
        request = Request(prompt="a fox", model="tiny", image=image, steps=4)
        job = self.jobs.submit(request, pictures)
        for _ in range(pictures):
            claims = Claims(self.jobs.store.database, "w", 30)
            claim = claims.claim()
            assert claim is not None
            self.jobs.picture_path(claim.picture).write_bytes(b"x" * SIZE)
            claims.finish(claim, FinishedPicture(1.0, SIZE, 8, 8))
            with self.jobs.store.database.writing() as connection:
                connection.execute("UPDATE pictures SET finished = finished - ? WHERE job = ?", (3600 * hours_ago, job))
        return job

    def there(self, job: str) -> bool:
        """Whether a job is known and all of its pictures are on the disk; all or nothing."""
        try:
            pictures = self.jobs.get(job).pictures
        except UnknownJobError:
            return False
        assert all(self.jobs.picture_path(picture.id).exists() for picture in pictures)
        return True

    def files(self) -> int:
        """Pictures on the disk."""
        return len(list(self.jobs.folders.pictures.iterdir()))


def age(path: Path, hours: float) -> None:
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


def test_finished_jobs_are_removed_after_their_time(tmp_path: Path) -> None:
    kept = Kept(tmp_path, keep_hours=2)
    old, young = kept.made(hours_ago=3, pictures=2), kept.made(hours_ago=1)
    waiting = kept.jobs.submit(Request(prompt="a fox", model="tiny"))
    kept.housekeeper.remove_old()
    assert [kept.there(job) for job in (old, young)] == [False, True]
    assert kept.jobs.get(waiting).status == "queued"
    assert kept.files() == 1


def test_the_oldest_pictures_go_when_there_are_too_many(tmp_path: Path) -> None:
    kept = Kept(tmp_path, keep_bytes=3 * SIZE)
    jobs = [kept.made(hours_ago=hours) for hours in (1, 5, 3, 2, 4)]
    kept.housekeeper.remove_old()
    assert [kept.there(job) for job in jobs] == [True, False, True, True, False]
    assert kept.files() == 3


def test_files_that_belong_to_no_job_are_swept_away_once_they_are_old(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    job = kept.made()
    folders = kept.jobs.folders
    strays = [
        folders.pictures / f"{'a' * 32}.png",
        folders.pictures / ".b.png.part",
        folders.uploads / f"{'c' * 64}.png",
    ]
    for stray in strays:
        stray.write_bytes(b"x")
    kept.housekeeper.remove_old()
    assert all(stray.exists() for stray in strays)  # their jobs may be about to be added
    for stray in strays:
        age(stray, 1)
    age(kept.jobs.picture_path(kept.jobs.get(job).pictures[0].id), 1)
    kept.housekeeper.remove_old()
    assert not any(stray.exists() for stray in strays)
    assert kept.there(job)


def test_uploads_stay_as_long_as_a_job_needs_them(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "start.png")
    kept = Kept(tmp_path / "data", keep_hours=2)
    old = kept.made(hours_ago=3, image=str(tmp_path / "start.png"))
    waiting = kept.jobs.submit(Request(prompt="a cat", model="tiny", steps=4, image=str(tmp_path / "start.png")))
    upload = next(kept.jobs.folders.uploads.iterdir())
    assert kept.jobs.get(waiting).request.image == upload.name
    age(upload, 5)
    kept.housekeeper.remove_old()
    assert not kept.there(old)
    assert upload.exists()
    kept.jobs.cancel(waiting)
    with kept.jobs.store.database.writing() as connection:
        connection.execute("UPDATE pictures SET finished = 0 WHERE job = ?", (waiting,))
    kept.housekeeper.remove_old()
    assert not upload.exists()


@pytest.mark.parametrize("name", ["../x", "a", "A" * 32, f"{'a' * 32}.png", "/etc/passwd", "a" * 31 + "\n"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folders = Kept(tmp_path).jobs.folders
    for place in (folders.picture, folders.upload):
        with pytest.raises(ValueError, match="is no"):
            place(name)
