"""The queue in SQLite: what is accepted is kept, and made once, whoever dies."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalecrafter.request.request import LARGEST_SEED, Request
from scalecrafter.server.claims import Claims, FinishedPicture, recover
from scalecrafter.server.database import Database, StoreError
from scalecrafter.server.records import Failure
from scalecrafter.server.store import QueueFullError, Store, UnknownJobError
from scalecrafter.server.worker_lock import WorkerLock, is_dead

REQUEST = Request(prompt="a fox", seed=7)
MADE = FinishedPicture(seconds=0.7, bytes=10, width=128, height=128)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "jobs.sqlite3")
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


def worker(store: Store, name: str = "one", lease: float = 30.0) -> Claims:
    return Claims(store.database, name, lease)


def add(store: Store, pictures: int = 1, **changes: object) -> str:
    return store.add(REQUEST.changed(**changes), pictures, limit=100)[0]


def test_an_accepted_job_is_there_after_the_process_is_gone(tmp_path: Path) -> None:
    first = Store(Database(tmp_path / "jobs.sqlite3"))
    job = add(first, 2, prompt="a blue fox")
    again = Store(Database(tmp_path / "jobs.sqlite3")).job(job)  # the first was never closed
    assert again.request.prompt == "a blue fox"
    assert again.status == "queued"
    assert [picture.seed for picture in again.pictures] == [7, 8]


def test_seeds_follow_on_and_begin_again_at_zero(store: Store) -> None:
    job = store.job(add(store, 3, seed=LARGEST_SEED))
    assert [picture.seed for picture in job.pictures] == [LARGEST_SEED, 0, 1]


def test_a_seed_that_was_left_open_is_drawn_when_the_job_is_accepted(store: Store) -> None:
    jobs = [store.job(add(store, seed=None)) for _ in range(3)]
    assert all(job.request.seed == job.pictures[0].seed for job in jobs)
    assert len({job.request.seed for job in jobs}) == 3


def test_a_job_that_does_not_fit_into_the_queue_is_refused_whole(store: Store) -> None:
    store.add(REQUEST, 3, limit=4)
    with pytest.raises(QueueFullError, match="3 of 4 pictures wait"):
        store.add(REQUEST, 2, limit=4)
    assert store.waiting() == 3
    store.add(REQUEST, 1, limit=4)


def test_the_same_submission_twice_is_one_job(store: Store) -> None:
    first, is_new = store.add(REQUEST, 1, 9, repeat_key="k")
    again, is_new_again = store.add(REQUEST, 1, 9, repeat_key="k")
    assert (first, is_new, is_new_again) == (again, True, False)
    assert store.waiting() == 1


def test_pictures_are_claimed_in_the_order_of_their_arrival(store: Store) -> None:
    jobs = [add(store, 2, prompt=f"fox {number}") for number in range(3)]
    claims = [worker(store).claim() for _ in range(6)]
    assert [claim.job for claim in claims if claim] == [job for job in jobs for _ in range(2)]
    assert [claim.request.seed for claim in claims if claim] == [7, 8] * 3
    assert worker(store).claim() is None


def test_no_picture_is_claimed_twice_by_workers_in_a_race(store: Store, tmp_path: Path) -> None:
    add(store, 40)
    got: list[str] = []

    def claim_all(name: str) -> None:
        own = Claims(Database(tmp_path / "jobs.sqlite3"), name, 30)
        while claim := own.claim():
            got.append(claim.picture)

    threads = [threading.Thread(target=claim_all, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(got) == len(set(got)) == 40


def test_a_finished_picture_counts_and_its_job_is_done(store: Store) -> None:
    job = add(store, 2)
    one = worker(store)
    for status in ("running", "done"):
        claim = one.claim()
        assert claim is not None
        assert one.progress(claim, 1, 2, b"jpeg")
        assert store.preview(claim.picture) == b"jpeg"
        assert one.finish(claim, MADE)
        assert store.job(job).status == status
        assert store.preview(claim.picture) is None
    totals = store.totals()
    assert (totals["done"], totals["seconds"], totals["within 0.5"], totals["within 1.0"]) == (2, 1.4, 0, 2)


def test_what_a_dead_worker_was_at_is_queued_again_in_its_old_place(store: Store) -> None:
    first = add(store)
    add(store)
    worker(store, "dead").claim()
    assert recover(store.database, lambda name: name == "dead", attempts=3) == 1
    claim = worker(store).claim()
    assert claim is not None
    assert claim.job == first


def test_what_a_living_worker_is_at_stays_with_it(store: Store) -> None:
    add(store)
    worker(store).claim()
    assert recover(store.database, lambda _name: False, attempts=3) == 0
    assert worker(store).claim() is None


def test_a_worker_that_gives_no_sign_loses_its_picture_and_can_change_nothing(store: Store) -> None:
    job = add(store)
    hung, other = worker(store, "hung", lease=0.0), worker(store, "other")
    lost = hung.claim()
    assert lost is not None
    time.sleep(0.01)
    assert recover(store.database, lambda _name: False, attempts=3) == 1
    found = other.claim()
    assert found is not None
    assert found.picture == lost.picture
    assert not hung.renew(lost)
    assert not hung.progress(lost, 1, 2)
    assert not hung.finish(lost, MADE)
    hung.fail(lost, Failure("too late", False))
    hung.give_back(lost)
    assert store.job(job).status == "running"
    assert other.finish(found, MADE)
    assert store.totals()["done"] == 1


def test_signs_of_life_keep_a_claim_beyond_its_first_lease(store: Store) -> None:
    add(store)
    one = worker(store, lease=30)
    claim = one.claim()
    assert claim is not None
    for _ in range(3):
        with store.database.writing() as connection:  # half a minute passes, and one second
            connection.execute("UPDATE pictures SET lease = lease - 31")
        assert one.renew(claim)
        assert recover(store.database, lambda _name: False, attempts=3) == 0


def test_a_picture_that_workers_die_of_is_given_up(store: Store) -> None:
    job = add(store)
    for _ in range(3):
        assert worker(store, "dead").claim() is not None
        recover(store.database, lambda _name: True, attempts=3)
    state = store.job(job)
    assert state.status == "failed"
    assert state.failure is not None
    assert "3 times the worker died" in state.failure.message


def test_a_picture_that_was_given_back_is_not_held_to_have_killed_anyone(store: Store) -> None:
    job = add(store)
    one = worker(store)
    for _ in range(5):
        claim = one.claim()
        assert claim is not None
        one.give_back(claim)
    one.claim()
    recover(store.database, lambda _name: True, attempts=3)
    assert store.job(job).status == "queued"


def test_a_cancelled_job_leaves_the_queue_and_its_worker_finds_out(store: Store) -> None:
    job, other = add(store, 3), add(store)
    one = worker(store)
    done, running = one.claim(), one.claim()
    assert done is not None
    assert running is not None
    one.finish(done, MADE)
    store.cancel(job)
    assert [picture.status for picture in store.job(job).pictures] == ["done", "cancelled", "cancelled"]
    assert not one.progress(running, 1, 2)
    assert not one.is_wanted(running)
    following = one.claim()
    assert following is not None
    assert following.job == other
    assert store.totals()["cancelled"] == 2


def test_a_failed_picture_ends_its_job_and_says_why(store: Store) -> None:
    job = add(store, 3)
    claim = worker(store).claim()
    assert claim is not None
    worker(store).fail(claim, Failure("the U-Net ran out of memory", False))
    state = store.job(job)
    assert state.status == "failed"
    assert [picture.status for picture in state.pictures] == ["failed", "cancelled", "cancelled"]
    assert state.failure == Failure("the U-Net ran out of memory", False)
    assert worker(store).claim() is None


def test_every_change_is_told_once_to_who_asks_for_changes(store: Store) -> None:
    job, other = add(store), add(store)
    since, jobs = store.changes(0)
    assert jobs == {job, other}
    assert store.changes(since) == (since, frozenset())
    claim = worker(store).claim()
    later, jobs = store.changes(since)
    assert claim is not None
    assert (later > since, jobs) == (True, {job})
    worker(store).progress(claim, 1, 2)
    assert store.changes(later)[1] == {job}


def test_unknown_jobs_are_told_as_such(store: Store) -> None:
    for ask in (store.job, store.cancel):
        with pytest.raises(UnknownJobError, match="no job 'nope'"):
            ask("nope")


def test_a_transaction_that_fails_leaves_nothing_behind(store: Store) -> None:
    def half() -> None:
        with store.database.writing() as connection:
            connection.execute("INSERT INTO totals VALUES ('half', 1)")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert "half" not in store.totals()


def test_a_store_of_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="version 99"):
        Database(path)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="cannot use the store"):
        Database(path)


def test_a_worker_counts_as_dead_once_its_lock_is_gone(tmp_path: Path) -> None:
    lock = WorkerLock(tmp_path, "a1")
    assert not is_dead(tmp_path, "a1")
    assert (tmp_path / "a1").stat().st_mode & 0o077 == 0 or os.name == "nt"
    assert lock._file is not None
    lock._file.close()  # what the system does when the process dies
    assert is_dead(tmp_path, "a1")
    assert is_dead(tmp_path, "never was")
    assert list(tmp_path.iterdir()) == []
