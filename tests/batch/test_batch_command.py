"""`scalecrafter batch` as a user meets it: what it says, what it leaves, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scalecrafter._util.extras import need_extra
from scalecrafter.batch.manifest import read_manifest
from scalecrafter.cli import app
from scalecrafter.cli.batch import BatchReporter, _stopped_gently
from scalecrafter.errors import ScaleCrafterError
from tests.support.small_batch import pictures, write_jobs

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["batch", *arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    return result


def small(model: str, steps: int = 2) -> list[str]:
    return ["-o", "out", "--model", model, "--size", "64x64", "--steps", str(steps)]


def test_options_are_the_defaults_of_lines_and_the_end_is_told(model: str) -> None:
    write_jobs(Path("jobs.jsonl"), [{"prompt": "a fox"}, {"prompt": "a cat", "steps": 1}, {"prompt": "a fox"}])
    result = run("jobs.jsonl", *small(model), "--negative", "a dog")
    assert result.stdout == "out\n"
    assert "3/3 pictures" in result.stderr
    assert "2 made, 1 duplicate lines" in result.stderr
    made = {row.line: json.loads(str(row.request)) for row in read_manifest("out")}
    assert [(made[line]["steps"], made[line]["negative"]) for line in (1, 2)] == [(2, "a dog"), (1, "a dog")]
    assert "2 there already, 1 duplicate lines" in run("jobs.jsonl", *small(model), "--negative", "a dog").stderr


def test_a_failed_line_is_told_with_its_reason_and_exit_code_1(model: str) -> None:
    write_jobs(Path("jobs.jsonl"), [{"prompt": "a fox"}, {"prompt": "a fox", "sede": 1}])
    result = run("jobs.jsonl", *small(model), code=1)
    assert "1 made, 1 failed" in result.stderr
    assert "line 2: there is no setting 'sede'; did you mean 'seed'?" in result.stderr
    assert len(pictures(Path("out"))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jsonl"], "there is no file"),
        (["jobs.txt"], "JSONL, CSV or Parquet"),
        (["jobs.jsonl", "--workers", "2"], "--ray"),
        (["jobs.jsonl", "--vae-memory", "much"], "--vae-memory"),
        (["jobs.jsonl", "--size", "big"], "WIDTHxHEIGHT"),
        (["jobs.jsonl", "-o", "jobs.jsonl"], "is a file"),
        (["jobs.jsonl", "-o", "nowhere://out"], "cannot use"),
    ],
)
def test_wrong_use_is_exit_code_2(arguments: list[str], message: str) -> None:
    write_jobs(Path("jobs.jsonl"), [{"prompt": "a fox"}])
    assert message in run("-o", "out", *arguments, code=2).stderr


@pytest.mark.slow
def test_ctrl_c_leaves_what_is_made_and_says_how_to_go_on(model: str, tmp_path: Path) -> None:
    write_jobs(Path("jobs.jsonl"), [{"prompt": f"fox {number}"} for number in range(200)])
    process = subprocess.Popen(
        [sys.executable, "-m", "scalecrafter", "batch", str(tmp_path / "jobs.jsonl"), *small(model, steps=4)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    for _ in range(1200):
        if len(list(Path().glob("out/*.png"))) >= 2 or process.poll() is not None:
            break
        signal.sigtimedwait([], 0.05)
    process.send_signal(signal.SIGTERM)  # as Ctrl-C, and as a cluster does it
    out, errors = process.communicate(timeout=300)
    assert (process.returncode, out) == (1, "")
    made = pictures(Path("out"))
    assert 2 <= len(made) < 200
    assert f"{len(made)} pictures were made and stay in out: run the same command again to resume" in errors
    assert errors.strip().splitlines()[-1] == "scalecrafter: stopped"
    assert "Traceback" not in errors
    assert sorted(os.listdir("out")) == sorted([".lock", "journal", "manifest.csv", "manifest.parquet", *made])
    assert {row.file for row in read_manifest("out")} == set(made)


def test_an_interrupt_that_python_could_not_pass_on_stops_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Any] = []
    with BatchReporter() as reporter, _stopped_gently(reporter):

        class Dying:
            def __del__(self) -> None:
                signal.raise_signal(signal.SIGTERM)  # the exception of the handler is lost in here

        monkeypatch.setattr(sys, "unraisablehook", lost.append)
        Dying()
        assert [one.exc_type for one in lost] == [KeyboardInterrupt]
        with pytest.raises(KeyboardInterrupt):
            reporter.step(1, 4)


def test_ray_takes_an_address_or_none(model: str) -> None:
    pytest.importorskip("ray")
    write_jobs(Path("jobs.jsonl"), [{"prompt": "a fox"}])
    result = run("--ray", "127.0.0.1:9", "jobs.jsonl", *small(model), code=2)
    assert "there is no Ray cluster at '127.0.0.1:9'" in result.stderr


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ScaleCrafterError, match=r"pip install 'scalecrafter\[ray\]'"):
        need_extra("batch --ray", "ray")
