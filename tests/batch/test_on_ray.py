"""The same batch on a real Ray cluster of two workers, of which one is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("ray")

from scalecrafter.batch.jobs import BatchTask
from scalecrafter.batch.manifest import ManifestRow, read_manifest
from scalecrafter.batch.on_ray import Attempts, Cluster, RayWorker, _encoded, ray_cluster
from scalecrafter.batch.storage import Storage
from scalecrafter.batch.worker import ATTEMPTS
from scalecrafter.request.request import Request, RequestError
from tests.support.small_batch import Notes, pictures, run, write_jobs


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # which workers take over: two workers with more would wait for each other's on two cores
    with ray_cluster("local", 2) as found:
        assert (found.threads, found.cpus_each, found.has_gpus) == (1, 1, False)
        yield found
    torch.set_num_threads(before)


class Killer(Notes):
    """Kills the worker of the third picture as soon as it hears of it."""

    def __init__(self) -> None:
        super().__init__()
        self.killed: int | None = None

    def finished(self, row: ManifestRow) -> None:
        super().finished(row)
        if len(self.rows) == 3:
            assert row.worker is not None
            self.killed = int(row.worker.rpartition(":")[2])
            os.kill(self.killed, signal.SIGKILL)


def test_a_worker_that_is_killed_is_replaced_and_the_pictures_are_those_made_in_process(
    cluster: Cluster, model: str, tmp_path: Path
) -> None:
    lines = [{"prompt": f"fox number {number}", "scheduler": "euler-a"} for number in range(10)]
    jobs = write_jobs(tmp_path / "jobs.jsonl", [*lines, lines[0], "no request"])
    killer, place = Killer(), Storage(str(tmp_path / "ray"))
    summary, _ = run(jobs, tmp_path / "ray", model, notes=killer, execute=cluster.executor(place, "auto"))
    assert (summary.made, summary.duplicates, summary.failed) == (10, 1, 1)
    rows = read_manifest(str(tmp_path / "ray"))
    assert Counter(row.status for row in rows) == {"made": 10, "failed": 1}
    assert len({row.hash for row in rows}) == 11
    workers = {row.worker for row in killer.rows if row.worker}
    assert len(workers) >= 2
    assert str(os.getpid()) not in {worker.rpartition(":")[2] for worker in workers}
    after = [row for row in killer.rows[3:] if row.worker and row.worker.endswith(f":{killer.killed}")]
    assert len(after) <= 1  # which was finished before the signal

    here, _ = run(jobs, tmp_path / "here", model)
    assert here.made == 10
    assert pictures(tmp_path / "ray") == pictures(tmp_path / "here")
    assert _told(tmp_path / "ray") == _told(tmp_path / "here")
    again, notes = run(jobs, tmp_path / "ray", model, execute=cluster.executor(place, "auto"))
    assert (again.made, again.there, [row.hash for row in notes.rows]) == (0, 10, [None])


def test_a_request_with_which_workers_died_is_made_alone_and_given_up_in_the_end(
    cluster: Cluster, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.chdir(tmp_path)  # where the worker goes, and stays: here it is this process
    assert cluster.workers == 2
    tasks = [_task(model, line) for line in (1, 2, 3)]
    attempts = ray.remote(num_cpus=0)(Attempts).remote()
    worker = RayWorker(str(tmp_path), "auto", str(tmp_path), torch.get_num_threads(), attempts)
    for _ in range(ATTEMPTS):
        ray.get(attempts.begin.remote([tasks[1].hash]))
    answer = worker({"tasks": _encoded(tasks)})
    rows = [ManifestRow(**values) for values in json.loads(answer["rows"])]
    assert [(row.status, row.attempts) for row in rows] == [("made", 1), ("failed", ATTEMPTS), ("made", 1)]
    assert "the worker died" in str(rows[1].error)
    assert sorted(pictures(tmp_path)) == sorted(f"{task.hash}.png" for task in (tasks[0], tasks[2]))


def _task(model: str, line: int) -> BatchTask:
    request = Request(prompt="a fox", model=model, seed=line, steps=1, width=128, height=128, device="cpu")
    return BatchTask(line, request.digest(), request)


def test_memory_is_refused_since_workers_cannot_reach_it(cluster: Cluster) -> None:
    with pytest.raises(RequestError, match="shared folder"):
        cluster.executor(Storage("memory://somewhere"), "auto")


def _told(folder: Path) -> set[tuple[object, ...]]:
    """What a manifest says but for times and workers."""
    return {
        (row.hash, row.line, row.request, row.status, row.file, row.attempts, row.error, row.versions, row.environment)
        for row in read_manifest(str(folder))
    }
