"""`scalecrafter bench`: the JSON that outside checks read, and the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scalecrafter.cli import app

ROW = {
    "architecture",
    "width",
    "height",
    "method",
    "mode",
    "steps",
    "flops",
    "flops_over_direct",
    "published_over_flops",
}
TIMED = {"seconds", "seconds_over_direct", "published_over_seconds", "tflops_per_s", "of_ceiling", "spread", "parts"}
PROCESSORS = """
class ReDilateConvProcessor:
    def __init__(self, module, factor, mode="bilinear", activate=True):
        self.module = module
    def __call__(self, features):
        return self.module._conv_forward(features, self.module.weight, self.module.bias)
"""


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["bench", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_counting_writes_a_row_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    shown = run("--flops", "--architecture", "critters", "--size", "512x512", "--steps", "10", "-o", str(file))
    found = json.loads(file.read_text("utf-8"))
    assert found["device"] == "meta"
    assert found["ceilings"] == {}
    assert set(found["versions"]) >= {"scalecrafter", "torch", "diffusers", "python"}
    assert all(set(row) == ROW for row in found["rows"])
    methods = [row["method"] for row in found["rows"]]
    assert methods[:3] == ["direct", "published", "scalecrafter"]
    assert "cascade" in methods
    assert all(f"| {method} |" in shown for method in methods)


@pytest.mark.slow
def test_measuring_puts_pictures_together_from_kinds_of_step(tmp_path: Path) -> None:
    file, checkout = tmp_path / "bench.json", tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "model.py").write_text(PROCESSORS)
    named = [part for name in ("direct", "published", "scalecrafter", "cascade") for part in ("--method", name)]
    where = ["--architecture", "critters", "--size", "320x320", "--device", "cpu", "--rounds", "1"]
    run(*where, *named, "--steps", "3", "--peer", f"theirs={checkout}", "-o", str(file))
    found = json.loads(file.read_text("utf-8"))
    assert found["ceilings"]["matrix_product_tflops_per_s"] > 0
    assert found["ceilings"]["attention_tflops_per_s"]
    assert [row["method"] for row in found["rows"]] == ["direct", "published", "scalecrafter", "cascade", "theirs"]
    for row in found["rows"]:
        assert set(row) >= ROW | TIMED
        assert row["seconds"] == pytest.approx(sum(part["times"] * part["seconds"] for part in row["parts"]))
        assert row["spread"][0] <= row["seconds"] <= row["spread"][1]
        assert {part["part"] for part in row["parts"]} >= {"first step", "decode", "png"}


@pytest.mark.slow
def test_what_there_was_no_time_for_has_no_seconds(tmp_path: Path) -> None:
    """The first step of the first method is under way when the time is up."""
    file = tmp_path / "bench.json"
    run("--architecture", "critters", "--size", "256x256", "--device", "cpu", "--minutes", "0.0001", "-o", str(file))
    rows = json.loads(file.read_text("utf-8"))["rows"]
    assert all("seconds" not in row and "flops" in row for row in rows)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--method", "cascde"], "did you mean 'cascade'"),
        (["--size", "1000x1000"], "nearest good ones"),
        (["--architecture", "sdx1"], "there is no model 'sdx1'"),
        (["--peer", "theirs"], "no peer to run beside"),
        (["-o", "rows.csv"], "end in .json"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(app, ["bench", "--flops", *arguments])
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())
