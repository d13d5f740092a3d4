"""A worker, running in a thread of the tests: what it does with pictures, cancellations and its own end."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scalecrafter.generation.generate import generate
from scalecrafter.models.loading import load_pipeline
from scalecrafter.request.request import Request
from scalecrafter.server.claims import Claims, recover
from scalecrafter.server.jobs import Jobs, UnknownModelError
from scalecrafter.server.progress import NotWantedError, ProgressReporter
from scalecrafter.server.settings import Limits, ServerSettings
from scalecrafter.server.worker import PictureWorker
from scalecrafter.server.worker_arguments import WorkerArguments
from scalecrafter.server.worker_lock import is_dead
from tests.support.running_server import eventually

LONG = {"steps": 200, "width": 128, "height": 128}
SHORT = {"steps": 2, "width": 128, "height": 128, "seed": 3}

VERSION_1 = """
CREATE TABLE jobs (id TEXT PRIMARY KEY, created REAL NOT NULL, request TEXT NOT NULL, repeat_key TEXT UNIQUE,
    change INTEGER NOT NULL) STRICT;
CREATE TABLE pictures (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, position INTEGER NOT NULL, seed INTEGER NOT NULL,
    status TEXT NOT NULL, worker TEXT, lease REAL, attempts INTEGER NOT NULL DEFAULT 0,
    step INTEGER NOT NULL DEFAULT 0, steps INTEGER NOT NULL DEFAULT 0, preview BLOB,
    preview_number INTEGER NOT NULL DEFAULT 0, error TEXT, clients_fault INTEGER, seconds REAL, bytes INTEGER,
    width INTEGER, height INTEGER, finished REAL) STRICT;
CREATE TABLE uploads (job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, name TEXT NOT NULL) STRICT;
CREATE TABLE workers (id TEXT PRIMARY KEY, seen REAL NOT NULL, ready INTEGER NOT NULL) STRICT;
CREATE TABLE models (name TEXT PRIMARY KEY, facts TEXT NOT NULL) STRICT;
CREATE TABLE totals (name TEXT PRIMARY KEY, value REAL NOT NULL) STRICT;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO counters VALUES ('change', 0);
PRAGMA user_version = 1;
"""
"""The tables of the store before models had keys."""


class Bench:
    """A data folder with a worker at it."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.jobs = Jobs(settings)
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        self.worker = PictureWorker(WorkerArguments(settings=settings), self.stop)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self) -> Bench:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.jobs.close()

    def submit(self, pictures: int = 1, **values: Any) -> str:
        return self.jobs.submit(Request.from_mapping({"prompt": "a fox", "model": "tiny", **values}), pictures)

    def running(self, job: str) -> None:
        eventually(lambda: self.jobs.get(job).pictures[0].step > 0)


@pytest.fixture
def bench(tiny: Path, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    def make(**settings: Any) -> Bench:
        values = {"data": tmp_path, "models": {"tiny": str(tiny)}, "limits": Limits(steps=1000), **settings}
        return Bench(ServerSettings.model_validate(values))

    return make


def test_a_worker_that_must_end_puts_its_picture_back_after_the_time_of_grace(bench: Callable[..., Bench]) -> None:
    at = bench(grace=0.3)
    with at:
        job = at.submit(**LONG)
        at.running(job)
        at.stop.set()
        at.thread.join(60)
        state = at.jobs.get(job)
        assert state.status == "queued"
        assert at.jobs.store.database.rows("SELECT attempts FROM pictures")[0]["attempts"] == 0
        assert is_dead(at.jobs.folders.workers, at.worker.id)
        assert list(at.jobs.folders.pictures.iterdir()) == []


def test_a_cancelled_picture_stops_within_a_step(bench: Callable[..., Bench]) -> None:
    with bench() as at:
        job = at.submit(**LONG)
        at.running(job)
        at.jobs.cancel(job)
        step = at.jobs.get(job).pictures[0].step
        assert step < 190
        after = at.submit(**SHORT)
        states = list(at.jobs.events(after, timeout=300))
        assert states[-1].status == "done"
        assert at.jobs.get(job).pictures[0].step <= step + 1


def test_the_next_step_that_is_told_finds_a_picture_cancelled(bench: Callable[..., Bench]) -> None:
    at = bench()
    job = at.submit(**SHORT)
    claims = Claims(at.jobs.store.database, "w", 30)
    claim = claims.claim()
    assert claim is not None
    progress = ProgressReporter(claims, claim, None, lambda: False, lambda: False)
    progress(1, 1)
    at.jobs.cancel(job)
    with pytest.raises(NotWantedError):
        progress(1, 1)


def test_a_picture_that_was_written_before_its_worker_died_is_not_made_again(bench: Callable[..., Bench]) -> None:
    at = bench()
    job = at.submit(**SHORT)
    claim = Claims(at.jobs.store.database, "dead", 30).claim()
    assert claim is not None
    target = at.jobs.picture_path(claim.picture)
    Image.new("RGB", (128, 128), "red").save(target)
    written = target.stat().st_mtime_ns
    recover(at.jobs.store.database, lambda _name: True, attempts=3)
    with at:
        assert list(at.jobs.events(job, timeout=300))[-1].status == "done"
        assert target.stat().st_mtime_ns == written


def test_half_a_picture_of_a_dead_worker_is_made_anew(bench: Callable[..., Bench], tiny: Path) -> None:
    at = bench()
    job = at.submit(**SHORT)
    claim = Claims(at.jobs.store.database, "dead", 30).claim()
    assert claim is not None
    target = at.jobs.picture_path(claim.picture)
    Image.new("RGB", (128, 128), "red").save(target)
    target.write_bytes(target.read_bytes()[:-40])
    recover(at.jobs.store.database, lambda _name: True, attempts=3)
    with at:
        list(at.jobs.events(job, timeout=300))
        made = generate(load_pipeline(tiny), Request(prompt="a fox", model="tiny", **SHORT))
        with Image.open(target) as image:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(made.image))


def test_a_limit_holds_for_sizes_that_only_the_model_knows(bench: Callable[..., Bench]) -> None:
    at = bench(limits=Limits(pixels=128 * 128, steps=1000))
    job = at.submit(steps=1)  # accepted before a worker has told that 256x256 is meant
    with at:
        state = list(at.jobs.events(job, timeout=300))[-1]
        assert state.failure is not None
        assert "256x256 is 65,536 pixels" in state.failure.message
        assert state.failure.is_clients


def test_two_servers_on_one_folder_each_make_the_pictures_of_their_own_models(
    bench: Callable[..., Bench], tiny: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny, tmp_path / "elsewhere")
    other = bench(models={"other": str(tiny), "tiny": str(tmp_path / "elsewhere")})
    for_other = [other.submit(model=name, **SHORT) for name in ("other", "tiny")]
    with bench() as at:
        own = at.submit(**SHORT)
        assert at.jobs.get(own).ahead == 0
        assert list(at.jobs.events(own, timeout=300))[-1].status == "done"
        assert [at.jobs.get(job).status for job in for_other] == ["queued", "queued"]
        assert at.jobs.store.waiting() == 0
        with pytest.raises(UnknownModelError, match="no model 'other'"):
            at.submit(model="other")
        assert other.jobs.store.ready_workers(60) == 0  # those of the other server are of no use to it
        with other:
            for job in for_other:
                assert list(other.jobs.events(job, timeout=300))[-1].status == "done"


def test_a_job_of_an_earlier_version_is_made_by_who_serves_its_model(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    earlier = sqlite3.connect(tmp_path / "jobs.sqlite3")
    earlier.executescript(VERSION_1)
    request = Request(prompt="a fox", model="tiny", **SHORT).model_dump_json()
    earlier.execute("INSERT INTO jobs VALUES ('j', 1e12, ?, NULL, 0)", (request,))
    earlier.execute(
        "INSERT INTO pictures (id, job, position, seed, status) VALUES (?, 'j', 0, 3, 'queued')", ("a" * 32,)
    )
    earlier.commit()
    earlier.close()
    with bench() as at:
        assert list(at.jobs.events("j", timeout=300))[-1].status == "done"


def test_a_model_that_breaks_is_the_servers_fault_and_the_worker_goes_on(
    bench: Callable[..., Bench], tmp_path: Path, tiny: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    with bench(models={"tiny": str(tiny), "broken": str(broken)}) as at:
        eventually(lambda: at.jobs.store.ready_workers(60))
        for weights in broken.rglob("*.safetensors"):
            weights.write_bytes(b"no weights")
        state = list(at.jobs.events(at.submit(model="broken", **SHORT), timeout=300))[-1]
        assert state.failure is not None
        assert not state.failure.is_clients
        assert "\n" not in state.failure.message
        assert list(at.jobs.events(at.submit(**SHORT), timeout=300))[-1].status == "done"
