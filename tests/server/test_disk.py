"""The data folder: what is written, how much of it, and who may read it."""

from __future__ import annotations

import os
import sqlite3
import stat
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from scalecrafter.errors import UnwritableError
from scalecrafter.request.request import Request
from scalecrafter.server.app import create_app
from scalecrafter.server.claims import Claims
from scalecrafter.server.failures import public
from scalecrafter.server.housekeeping import Housekeeper
from scalecrafter.server.jobs import Jobs
from scalecrafter.server.settings import LimitError, Limits, ServerSettings
from scalecrafter.server.store import QueueFullError

FOX = Request(prompt="a fox", model="tiny", image="a.png", steps=4)


def settings(data: Path, **values: Any) -> ServerSettings:
    return ServerSettings.model_validate({"data": data, "models": {"tiny": "x"}, **values})


def png(shade: int) -> bytes:
    file = BytesIO()
    Image.new("L", (8, 8), shade).save(file, "PNG")
    return file.getvalue()


def files(jobs: Jobs) -> int:
    return len(list(jobs.folders.uploads.iterdir()))


def test_the_upload_of_an_edit_that_is_refused_is_never_written(tmp_path: Path) -> None:
    jobs = Jobs(settings(tmp_path, limits=Limits(queue=1)))
    jobs.submit(FOX, files={"image": png(1)})
    with pytest.raises(QueueFullError):
        jobs.submit(FOX, files={"image": png(2)})
    assert files(jobs) == 1


def test_a_submission_that_arrives_twice_writes_its_upload_once(tmp_path: Path) -> None:
    jobs = Jobs(settings(tmp_path))
    first = jobs.submit(FOX, files={"image": png(1)}, repeat_key="k")
    assert jobs.submit(FOX, files={"image": png(2)}, repeat_key="k") == first
    assert files(jobs) == 1


def test_an_upload_goes_with_the_last_job_that_names_it(tmp_path: Path) -> None:
    jobs = Jobs(settings(tmp_path, keep_hours=1))
    housekeeper = Housekeeper(jobs.settings, jobs.folders, jobs.store.database)
    for job in [jobs.submit(FOX, files={"image": png(1)}) for _ in range(2)]:
        assert files(jobs) == 1
        jobs.cancel(job)
        with jobs.store.database.writing() as connection:
            connection.execute("UPDATE pictures SET finished = 1 WHERE job = ?", (job,))
        housekeeper.remove_old()
    assert files(jobs) == 0


def test_what_earlier_versions_left_of_the_pages_uploads_is_swept_away_at_the_start(tmp_path: Path) -> None:
    jobs = Jobs(settings(tmp_path))
    (jobs.folders.page / "abc").mkdir(parents=True)
    (jobs.folders.page / "abc" / "a.png").write_bytes(b"x")
    housekeeper = Housekeeper(jobs.settings, jobs.folders, jobs.store.database)
    housekeeper.start()
    housekeeper.end()
    assert not jobs.folders.page.exists()


def test_jobs_without_pictures_count_too_when_the_disk_is_bounded(tmp_path: Path) -> None:
    jobs = Jobs(settings(tmp_path, keep_bytes=1 << 20, limits=Limits(queue=1000, prompt=10_000)))
    for number in range(800):
        jobs.cancel(jobs.submit(Request(prompt=f"{number}" + "fox " * 2400, model="tiny")))
    housekeeper = Housekeeper(jobs.settings, jobs.folders, jobs.store.database)
    before = jobs.store.database.bytes_used()
    housekeeper.remove_old()
    assert before > 6 << 20
    assert jobs.store.database.bytes_used() < 6 << 20


def test_a_request_that_would_fill_the_store_is_refused(tmp_path: Path) -> None:
    jobs = Jobs(settings(tmp_path))
    recipe = "[redilation]\nuntil = 1.0\nlayers = { mid_block = 2 }\n" + "# again and again\n" * 10_000
    with pytest.raises(LimitError, match="bytes: this server takes at most"):
        jobs.submit(Request(prompt="a fox", model="tiny", recipe=recipe))


def test_a_job_whose_model_nobody_has_waits_and_fails_after_the_time(tmp_path: Path) -> None:
    gone = Jobs(settings(tmp_path, models={"gone": "y"}))
    job = gone.submit(Request(prompt="a fox", model="gone"))
    jobs = Jobs(settings(tmp_path, keep_hours=1))
    housekeeper = Housekeeper(jobs.settings, jobs.folders, jobs.store.database)
    housekeeper.remove_old()
    assert jobs.get(job).status == "queued"
    with jobs.store.database.writing() as connection:
        connection.execute("UPDATE jobs SET created = created - 7200")
    Claims(gone.store.database, "alive", 30, gone.settings.model_keys.values()).heartbeat(True)
    housekeeper.remove_old()
    assert jobs.get(job).status == "queued"  # another server has it
    Claims(gone.store.database, "alive", 30).leave()
    housekeeper.remove_old()
    failure = jobs.get(job).failure
    assert failure is not None
    assert "no server had this model for 1 hours" in failure.message


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_other_users_cannot_read_jobs_and_pictures_in_a_folder_that_was_there_before(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in (data, data / "pictures"):
        folder.mkdir()
        folder.chmod(0o755)
    for name in ("jobs.sqlite3", "pictures/old.png"):
        (data / name).touch(0o644)
    jobs = Jobs(settings(data))
    jobs.submit(FOX, files={"image": png(1)})
    for path in data.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("cannot write '/srv/my data/pictures/a.png': No space left", "cannot write 'a.png': No space left"),
        ("no weights in /srv/models/fox: look there", "no weights in fox: look there"),
        ("see ~/models/fox/unet and C", "see unet and C"),
        ("POST /v1/jobs and GET /v1/jobs/{id}/events", "POST /v1/jobs and GET /v1/jobs/{id}/events"),
        ("512x512 and/or https://example.org/a/b", "512x512 and/or https://example.org/a/b"),
    ],
)
def test_messages_hold_no_path_of_the_server(message: str, shown: str) -> None:
    assert public(ValueError(message)) == shown


@pytest.mark.parametrize("recipe", ["a = " + "[" * 5000, "a = " + "1" * 5000])
def test_recipe_texts_that_python_cannot_read_are_refused_in_words(tmp_path: Path, recipe: str) -> None:
    client = TestClient(create_app(settings(tmp_path)), raise_server_exceptions=False)
    answer = client.post("/v1/jobs", json={"prompt": "a fox", "recipe": recipe})
    assert answer.status_code == 400
    assert "not valid TOML" in answer.json()["error"]["message"]


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk full"), OSError(28, "No space left", "/srv/x/y")])
def test_a_disk_that_cannot_be_used_is_said_without_its_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    app = create_app(settings(tmp_path))

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(app.state.jobs.store, "add", fail)
    answer = TestClient(app, raise_server_exceptions=False).post("/v1/jobs", json={"prompt": "a fox", "steps": 1})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
    assert "cannot use its disk" in answer.json()["error"]["message"]
    assert "/srv" not in answer.text
    assert "OperationalError" not in answer.text


def test_an_upload_that_cannot_be_written_leaves_no_job(tmp_path: Path) -> None:
    jobs = Jobs(settings(tmp_path))
    jobs.folders.uploads.rmdir()
    jobs.folders.uploads.write_bytes(b"in the way")
    with pytest.raises(UnwritableError):
        jobs.submit(FOX, files={"image": png(1)})
    assert jobs.store.waiting() == 0
