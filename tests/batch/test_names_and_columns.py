"""Names that people can read, columns that are no settings, and the manifest as CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from scalecrafter.batch.columns import known_columns
from scalecrafter.batch.jobs import Line, read_lines, to_request
from scalecrafter.batch.manifest import read_manifest
from scalecrafter.batch.names import NameTemplate
from scalecrafter.generation.picture_files import read_request
from scalecrafter.request.request import Request, RequestError
from tests.support.small_batch import pictures, run, write_jobs

FOX = Request(prompt="A blue fox, in the snow!", width=64, height=128, seed=3, model="/models/My Model")


def name(pattern: str, request: Request = FOX) -> str:
    return NameTemplate(pattern).name(request, request.digest(), index=7, line=9)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{index:04d}-{prompt}", "0007-a-blue-fox-in-the-snow"),
        ("{line}_{seed}_{size}", "9_3_64x128"),
        ("{model}: {method}", "My-Model-scalecrafter"),
        ("{prompt:.6}", "a-blue"),
        ("{guidance:.1f} {steps}", "7.5-25"),
        ("{hash:.8}", FOX.digest()[:8]),
        ("...{prompt}..", "a-blue-fox-in-the-snow"),
        ("con", "_con"),
        ("?*", "_"),
        ("x" * 400, "x" * 150),
    ],
)
def test_a_pattern_becomes_a_safe_name(pattern: str, expected: str) -> None:
    assert name(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{promt}", "there is no field 'promt'; did you mean 'prompt'? Known: index, line, hash"),
        ("{prompt", "is no pattern"),
        ("{index:04s}", "cannot be written"),
        ("{prompt:04d}", "cannot be written"),
        ("a/{index}", "all pictures lie in one folder"),
        ("{prompt.__class__}", "there is no field"),
        ("{}", "there is no field"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused_before_anything_is_made(pattern: str, message: str) -> None:
    with pytest.raises(RequestError) as raised:
        NameTemplate(pattern)
    assert message in str(raised.value)


@pytest.mark.slow
def test_names_are_told_apart_and_a_resumed_batch_finds_its_pictures_by_their_requests(
    model: str, tmp_path: Path
) -> None:
    lines = [{"prompt": "a fox", "seed": 1}, {"prompt": "A fox!", "seed": 2}, {"prompt": "a cat", "seed": 1}]
    jobs, out, names = write_jobs(tmp_path / "jobs.jsonl", lines), tmp_path / "out", NameTemplate("{prompt}")
    summary, _ = run(jobs, out, model, name=names)
    before = pictures(out)
    assert summary.made == 3
    assert {"a-fox.png", "a-cat.png"} < set(before)
    other = next(iter(set(before) - {"a-fox.png", "a-cat.png"}))
    assert other == f"a-fox-{read_request(out / other).digest()[:8]}.png"
    (out / "a-fox.png").unlink()
    (out / "manifest.parquet").unlink()
    summary, _ = run(jobs, out, model, name=names)
    assert (summary.there, summary.made) == (2, 1)
    assert pictures(out) == before
    assert {row.file for row in read_manifest(str(out))} == set(before)
    other_jobs = write_jobs(tmp_path / "more.jsonl", [{"prompt": "a cat", "seed": 5}])  # the name is another picture's
    run(other_jobs, out, model, name=names)
    assert {name: data for name, data in pictures(out).items() if name in before} == before
    assert len(pictures(out)) == 4


def test_columns_are_known_in_upper_case_and_by_diffusers_names(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("Prompt,Size,Negative Prompt,num_inference_steps\na fox,64x128,a dog,3\n")
    request = to_request(next(read_lines(str(tmp_path / "jobs.csv"))), {})
    assert (request.prompt, request.width, request.height) == ("a fox", 64, 128)
    assert (request.negative, request.steps) == ("a dog", 3)
    with pytest.raises(RequestError, match="line 4: size is given twice, once as 'Size'"):
        to_request(Line(4, {"size": "64x64", "Size": "64x64"}), {})


def test_a_slip_is_an_error_with_every_setting_and_another_column_is_none() -> None:
    with pytest.raises(RequestError) as raised:
        to_request(Line(1, {"prompt": "a fox", "sede": 3}), {})
    assert "did you mean 'seed'" in str(raised.value)
    assert all(column in str(raised.value) for column in known_columns())
    assert {"size", "enlarge", "cascade", "controls"} < set(known_columns())
    others: dict[str, Any] = {"id": 5, "prompt_id": 7, "category": "animals", "image_url": "x", "notes": "y"}
    assert to_request(Line(1, {"prompt": "a fox", **others}), {}) == to_request(Line(1, {"prompt": "a fox"}), {})


def test_other_columns_are_told_once_and_kept_in_both_manifests(model: str, tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"prompt": "a fox", "id": 5, "category": "ein Füchslein"},
        {"prompt": "a cat, with a hat", "id": 6},
        {"prompt": "a dog", "size": "1x1"},
    ]
    _, notes = run(write_jobs(tmp_path / "jobs.jsonl", lines), tmp_path / "out", model)
    told = [note for note in notes.notes if note.startswith("note:")]  # beside what all will take, if that is known
    assert len(told) == 1
    assert "'id', 'category' is no setting" in told[0]
    kept = {row.line: json.loads(row.columns) if row.columns else None for row in read_manifest(str(tmp_path / "out"))}
    assert kept == {1: {"id": 5, "category": "ein Füchslein"}, 2: {"id": 6}, 3: None}
    with (tmp_path / "out" / "manifest.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {int(row["line"]): row for row in csv.DictReader(file)}
    assert rows[2]["prompt"] == "a cat, with a hat"
    assert (rows[2]["status"], rows[2]["width"], rows[2]["file"]) == ("made", "64", f"{rows[2]['hash']}.png")
    assert json.loads(rows[1]["columns"]) == kept[1]
    assert rows[3]["status"] == "failed"
    assert "line 3:" in rows[3]["error"]
