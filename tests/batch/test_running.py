"""Batches that fail, are stopped, killed or run out of disk: nothing is lost, nothing is made twice."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import subprocess
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from scalecrafter.batch.folder import opened_folder
from scalecrafter.batch.manifest import read_manifest
from scalecrafter.batch.running import Summary
from scalecrafter.batch.storage import Storage, StorageError
from scalecrafter.generation.picture_files import read_request
from scalecrafter.generation.timings import CACHE
from scalecrafter.request.request import Request, RequestError
from tests.support.copies import Copy
from tests.support.small_batch import Notes, alone, pictures, run, write_jobs
from tests.support.tiny_models import tiny_sd_pipeline

pytestmark = pytest.mark.sampled


def foxes(count: int) -> list[dict[str, object]]:
    return [{"prompt": f"fox number {number}"} for number in range(count)]


def times(folder: Path) -> dict[str, int]:
    """When each picture was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")}


@pytest.mark.slow
def test_a_killed_batch_goes_on_and_makes_the_missing_pictures_alone(model: str, tmp_path: Path) -> None:
    jobs, out = write_jobs(tmp_path / "jobs.jsonl", foxes(12)), tmp_path / "out"
    process = Copy(tmp_path, alone, model, jobs, out, 0.3)
    message = process.printed(lines=5)
    process.signal(signal.SIGKILL)
    process.ended()
    before = times(out)
    assert {f"{name}.png" for name in message} <= set(before)
    assert 5 <= len(before) < 12
    assert {row.file for row in read_manifest(str(out)) if row.seconds} >= set(before)  # rows outlive the process

    summary, notes = run(jobs, out, model)
    assert (summary.there, summary.made) == (len(before), 12 - len(before))
    assert not {f"{row.hash}.png" for row in notes.rows} & set(before)
    after = times(out)
    assert len(after) == 12
    assert {name: after[name] for name in before} == before
    rows = pyarrow.parquet.read_table(out / "manifest.parquet").to_pylist()
    assert sorted(row["file"] for row in rows) == sorted(after)
    assert all(row["status"] == "made" and row["seconds"] > 0 and row["attempts"] == 1 for row in rows)
    assert sorted(os.listdir(out)) == sorted([".lock", "journal", "manifest.csv", "manifest.parquet", *after])
    assert os.listdir(out / "journal") == []


def test_pictures_are_named_by_their_requests_and_carry_them(model: str, tmp_path: Path) -> None:
    jobs = write_jobs(tmp_path / "jobs.jsonl", [{"prompt": "a fox", "seed": 3}, {"prompt": "a cat"}])
    run(jobs, tmp_path / "out", model)
    rows = read_manifest(str(tmp_path / "out"))
    assert len(rows) == 2
    for row in rows:
        assert row.request is not None
        request = Request.from_mapping(json.loads(row.request))
        assert row.file == f"{request.digest()}.png"
        assert read_request(tmp_path / "out" / row.file) == request
        assert request.seed is not None
    assert {row.line: json.loads(str(row.request))["seed"] for row in rows}[1] == 3


def test_lines_that_cannot_be_are_failed_rows_with_their_number_and_the_rest_is_made(
    model: str, tmp_path: Path
) -> None:
    lines = [
        {"prompt": "a fox"},
        "nonsense",
        {"prompt": "a fox", "sead": 3},
        {"prompt": "a fox", "size": "100x128"},
        "[1]",
        "",
        {"prompt": "a fox", "model": "nope"},
        {"prompt": "a fox", "device": "cuda:7"},
        {"prompt": "a fox", "size": "large"},
        {"prompt": "a cat"},
    ]
    jobs = write_jobs(tmp_path / "jobs.jsonl", lines)
    summary, notes = run(jobs, tmp_path / "out", model)
    assert (notes.total, summary.made, summary.failed) == (9, 2, 7)
    errors = {row.line: str(row.error) for row in read_manifest(str(tmp_path / "out")) if row.status == "failed"}
    for line, message in {
        2: "not JSON",
        3: "'seed'",
        4: "64 and 128",
        5: "object",
        7: "nope",
        8: "CUDA",
        9: "WIDTH",
    }.items():
        assert errors.pop(line).startswith(f"line {line}: ")
        assert message in str(next(row.error for row in notes.rows if row.line == line))
    assert errors == {}
    run(write_jobs(tmp_path / "jobs.jsonl", [lines[0], lines[-1]]), tmp_path / "out", model)
    assert [row.status for row in read_manifest(str(tmp_path / "out"))] == ["made", "made"]


def test_duplicate_lines_are_made_once(model: str, tmp_path: Path) -> None:
    lines = [{"prompt": "a fox"}, {"prompt": "a fox"}, {"prompt": "a fox", "size": "64x64", "negative": ""}]
    summary, _ = run(write_jobs(tmp_path / "jobs.jsonl", lines), tmp_path / "out", model)
    assert summary == Summary(made=1, duplicates=2)
    assert len(pictures(tmp_path / "out")) == 1


def test_the_start_says_what_is_known_of_the_time_of_all(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    jobs = write_jobs(tmp_path / "jobs.jsonl", foxes(2))
    _, first = run(jobs, tmp_path / "first", model)
    assert first.notes == []
    jobs = write_jobs(tmp_path / "jobs.jsonl", [*foxes(3), {"prompt": "fox number 0"}])
    _, more = run(jobs, tmp_path / "first", model)
    assert [note.partition(",")[0] for note in more.notes] == ["1 to make"]
    _, again = run(jobs, tmp_path / "second", model)
    (note,) = again.notes
    assert re.fullmatch(r"3 to make, about .* s in all, by the last pictures here", note)
    _, other = run(jobs, tmp_path / "third", model, defaults={"steps": 1})
    assert other.notes == []


class Flaky(Notes):
    """Its device is lost at some steps."""

    def __init__(self, *lost: int) -> None:
        super().__init__()
        self._lost = lost

    def step(self, step: int, steps: int) -> None:
        super().step(step, steps)
        if self.steps in self._lost:
            raise RuntimeError("the device was lost")


def test_what_fails_by_chance_is_tried_again(model: str, tmp_path: Path) -> None:
    summary, notes = run(write_jobs(tmp_path / "j.jsonl", foxes(2)), tmp_path / "out", model, notes=Flaky(1, 2))
    assert (summary.made, summary.failed) == (2, 0)
    assert [row.attempts for row in notes.rows] == [3, 1]


@pytest.mark.slow
def test_what_keeps_failing_is_reported_and_is_tried_again_only_when_asked(model: str, tmp_path: Path) -> None:
    jobs, out = write_jobs(tmp_path / "j.jsonl", foxes(3)), tmp_path / "out"
    summary, notes = run(jobs, out, model, notes=Flaky(1, 2, 3))
    assert (summary.made, summary.failed) == (2, 1)
    assert [(row.status, row.attempts) for row in notes.rows] == [("failed", 3), ("made", 1), ("made", 1)]
    assert summary.reasons == ["line 1: RuntimeError: the device was lost"]
    before = times(out)
    summary, notes = run(jobs, out, model)
    assert (summary.made, summary.there, summary.failed_before, notes.rows) == (0, 2, 1, [])
    summary, _ = run(jobs, out, model, retry_failed=True)
    assert (summary.made, summary.there, summary.failed_before) == (1, 2, 0)
    assert len(times(out).items() & before.items()) == 2
    assert [row.status for row in read_manifest(str(out))] == ["made"] * 3


def test_a_model_that_makes_nan_fails_with_its_reason_and_another_model_works(model: str, tmp_path: Path) -> None:
    broken = tiny_sd_pipeline()
    broken.vae.decoder.conv_out.bias[0] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    lines = [{"prompt": "a fox", "model": str(tmp_path / "broken")}, {"prompt": "a fox"}]
    summary, notes = run(write_jobs(tmp_path / "j.jsonl", lines), tmp_path / "out", model)
    assert (summary.made, summary.failed) == (1, 1)
    assert notes.rows[0].attempts == 3
    assert "NaN" in str(notes.rows[0].error)


@pytest.mark.slow
def test_requests_of_one_shape_made_together_are_the_pictures_they_are_alone(model: str, tmp_path: Path) -> None:
    lines = [*foxes(3), {"prompt": "wide", "size": "128x64"}, {"prompt": "up", "method": "upscale"}, *foxes(5)[3:]]
    for line in lines:
        line["scheduler"] = "euler-a"
    jobs = write_jobs(tmp_path / "j.jsonl", lines)
    _, alone = run(jobs, tmp_path / "alone", model)
    _, together = run(jobs, tmp_path / "together", model, batch_size=4)
    assert (alone.steps, together.steps) == (14, 8)  # two calls for five pictures, one for each of the others
    one, other = pictures(tmp_path / "alone"), pictures(tmp_path / "together")
    assert list(one) == list(other)
    for name, content in one.items():
        first, second = (np.asarray(Image.open(io.BytesIO(data)), dtype=int) for data in (content, other[name]))
        assert abs(first - second).max() <= 1


def test_a_group_that_fails_is_made_one_by_one(model: str, tmp_path: Path) -> None:
    jobs = write_jobs(tmp_path / "j.jsonl", foxes(3))
    summary, notes = run(jobs, tmp_path / "out", model, batch_size=3, notes=Flaky(1))
    assert (summary.made, [row.attempts for row in notes.rows], notes.steps) == (3, [2, 2, 2], 7)
    run(jobs, tmp_path / "alone", model)
    assert pictures(tmp_path / "out") == pictures(tmp_path / "alone")


def test_a_full_disk_stops_the_batch_with_the_reason_and_nothing_is_lost(model: str, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: rows fit, pictures do not."""
    jobs, out = write_jobs(tmp_path / "j.jsonl", foxes(3)), tmp_path / "out"
    large = {"width": 128, "height": 128}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    run(write_jobs(tmp_path / "one.jsonl", foxes(1)), out, model, defaults=large)
    before = times(out)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*png"):
            run(jobs, out, model, defaults=large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert times(out) == before
    assert not list(out.rglob("*.part"))
    assert Counter(row.status for row in read_manifest(str(out))) == {"made": 1}
    summary, _ = run(jobs, out, model, defaults=large)
    assert (summary.there, summary.made) == (1, 2)


@pytest.mark.slow
def test_a_picture_that_was_deleted_is_made_again_and_a_lost_manifest_is_written_anew(
    model: str, tmp_path: Path
) -> None:
    jobs, out = write_jobs(tmp_path / "j.jsonl", foxes(2)), tmp_path / "out"
    run(jobs, out, model)
    before = pictures(out)
    (out / next(iter(before))).unlink()
    (out / "manifest.parquet").unlink()
    summary, _ = run(jobs, out, model)
    assert (summary.there, summary.made) == (1, 1)
    assert pictures(out) == before
    assert {row.file for row in read_manifest(str(out))} == set(before)


def test_a_second_batch_in_the_same_folder_is_refused(model: str, tmp_path: Path) -> None:
    jobs = write_jobs(tmp_path / "j.jsonl", foxes(1))
    for out in (str(tmp_path / "out"), "memory://refused"):
        with opened_folder(out), pytest.raises(RequestError, match="another batch is at work"):
            run(jobs, out, model)
        assert run(jobs, out, model)[0].made == 1


def test_jobs_and_results_may_lie_on_any_file_system(model: str, tmp_path: Path) -> None:
    jobs, out = write_jobs(tmp_path / "j.jsonl", foxes(2)), "memory://bucket/results"
    with fsspec.open("memory://bucket/jobs.jsonl", "wb") as file:
        file.write(jobs.read_bytes())
    summary, _ = run("memory://bucket/jobs.jsonl", out, model)
    assert summary.made == 2
    run(jobs, tmp_path / "here", model)
    place = Storage(out)
    here = pictures(tmp_path / "here")
    assert place.names() - {"journal"} == {"manifest.csv", "manifest.parquet", *here}
    assert {name: place.read(name) for name in here} == here
    dead = subprocess.Popen(["true"])
    dead.wait()
    found = {"token": "x", "host": os.uname().nodename, "process": dead.pid, "time": 4e9}
    place.write(".lock", json.dumps(found).encode())  # of a batch that was killed
    place.delete(next(iter(here)))
    summary, _ = run("memory://bucket/jobs.jsonl", out, model)
    assert (summary.there, summary.made) == (1, 1)
    assert {name: place.read(name) for name in here} == here
