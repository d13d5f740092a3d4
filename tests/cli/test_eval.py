"""`scalecrafter eval` as a user meets it, with a tiny random model: its folder, its errors, and being stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import scalecrafter
from scalecrafter.cli import app
from scalecrafter.cli.counting import in_hours
from tests.support.tiny_models import tiny_sd_pipeline

pytestmark = pytest.mark.sampled

SRC = Path(scalecrafter.__file__).parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("eval") / "tiny"
    tiny_sd_pipeline(layers_per_block=1).save_pretrained(path)
    return str(path)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a fox\na cat\na pig\n")


def arguments(model: str, *more: str) -> list[str]:
    return [
        "eval", "--model", model, "--prompts", "prompts.txt", "--features", "none", "--pictures", "2",
        "--native-pictures", "0", "--steps", "2", "--size", "256x128", "-o", "run", *more,
    ]  # fmt: skip


def run(*given: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, list(given))
    assert result.exit_code == code, result.output
    if code:
        assert "Traceback" not in result.stderr
    return result


def complaint(result: Any) -> str:
    """The one line that an error is."""
    line: str = result.stderr.strip().splitlines()[-1]
    assert line.startswith("scalecrafter: ")
    return line


def cells() -> dict[tuple[str, int], int]:
    """Pictures of each method at each width, by the report."""
    content = json.loads(Path("run/report.json").read_text())
    return {(cell["method"], cell["size"][0]): cell["pictures"] for cell in content["cells"]}


def written() -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path("run/pictures").rglob("*.png")}


def test_eval_prints_its_tables_and_measures_what_was_asked_for(model: str) -> None:
    result = run(*arguments(model, "--method", "direct", "--method", "upscale"))
    assert result.stdout.split() == [str(Path("run") / f"report.{ending}") for ending in ("md", "csv", "json")]
    assert cells() == {("direct", 256): 2, ("upscale", 256): 2}
    assert "2 pictures a method tell little" in result.stderr
    told = result.stderr[result.stderr.index("4 pictures to make") :]
    assert "2 × direct 256×128, about" in told
    assert told.index("in all") < told.index("4/4 pictures")
    with Image.open("run/sheets/256x128-upscale.png") as sheet:
        assert sheet.format == "PNG"
    text = Path("run/report.md").read_text()
    assert "| upscale | 2 |" in text
    assert "no real pictures were named" in text


def test_without_methods_direct_inference_stands_beside_scalecrafter_at_twice_the_size(model: str) -> None:
    size = arguments(model).index("--size")
    given = arguments(model)
    run(*given[:size], *given[size + 2 :])
    assert cells() == {("direct", 256): 2, ("scalecrafter", 256): 2}


def test_recipes_and_variants_are_measured_under_their_stems(model: str) -> None:
    Path("mild.toml").write_text('[redilation]\nuntil = 0.5\nlayers = { "mid_block" = 2 }\n')
    Path("short.toml").write_text('method = "cascade"\nsteps = 3\nstrength = 0.4\n')
    run(*arguments(model, "--recipe", "mild.toml", "--variant", "short.toml"))
    assert cells() == {("recipe-mild", 256): 2, ("short", 256): 2}
    Path("mild.toml").write_text('[redilation]\nuntil = 0.5\nlayers = { "mid_block" = 3 }\n')
    before = written()
    assert "the method recipe-mild" in complaint(run(*arguments(model, "--recipe", "mild.toml"), code=2))
    assert written() == before


@pytest.mark.slow
def test_the_same_command_again_makes_no_picture_and_more_are_added(model: str) -> None:
    run(*arguments(model, "--method", "direct"))
    before = written()
    again = run(*arguments(model, "--method", "direct"))
    assert written() == before
    assert "2 of 2 pictures are there already" in again.stderr
    run(*arguments(model, "--method", "direct", "--method", "upscale", "--pictures", "3"))
    assert cells() == {("direct", 256): 3, ("upscale", 256): 3}
    assert {name: written()[name] for name in before} == before


def test_other_settings_in_the_folder_are_wrong_use(model: str) -> None:
    run(*arguments(model, "--method", "direct"))
    told = complaint(run(*arguments(model, "--method", "direct", "--steps", "3"), code=2))
    assert "steps was 2 and now is 3" in told
    assert "--output" in told


@pytest.mark.slow
def test_pictures_of_another_run_count_as_made_by_its_parquet_alone(model: str) -> None:
    run(*arguments(model, "--method", "direct"))
    before = json.loads(Path("run/report.json").read_text())
    Path("run/pictures.parquet").rename("first.parquet")
    shutil.rmtree("run")

    run(*arguments(model, "--method", "upscale", "--join", "first.parquet"))
    assert {Path(name).parent.name for name in written()} == {"upscale"}
    assert cells() == {("direct", 256): 2, ("upscale", 256): 2}
    after = json.loads(Path("run/report.json").read_text())
    assert after["cells"][0] == before["cells"][0]
    assert not Path("run/sheets/256x128-direct.png").exists()

    # What was joined travels on, and is made no more than before.
    Path("run/pictures.parquet").rename("second.parquet")
    shutil.rmtree("run")
    third = ("--method", "direct", "--method", "upscale", "--pictures", "3", "--join", "second.parquet")
    run(*arguments(model, *third))
    assert sorted(Path(name).name for name in written()) == ["0002.png", "0002.png"]
    assert cells() == {("direct", 256): 3, ("upscale", 256): 3}
    run(*arguments(model, *third, "--report-only"))
    assert cells() == {("direct", 256): 3, ("upscale", 256): 3}


def test_what_cannot_be_joined_is_refused_in_a_line(model: str) -> None:
    run(*arguments(model, "--method", "direct"))
    Path("run/pictures.parquet").rename("first.parquet")
    shutil.rmtree("run")
    Path("junk.parquet").write_text("no parquet")
    for file, more, told in (
        ("first.parquet", ("--steps", "3"), "'first.parquet' holds pictures made with other settings: steps was 2"),
        ("junk.parquet", (), "'junk.parquet' is not the pictures.parquet of an evaluation"),
        ("absent.parquet", (), "there is no file 'absent.parquet'"),
    ):
        folder = f"run-{len(told)}"
        result = run(*arguments(model, "--method", "direct", "--join", file, *more, "-o", folder), code=2)
        assert told in complaint(result)
        assert not list(Path(folder).rglob("*.png"))


@pytest.mark.slow
def test_report_only_looks_at_the_pictures_that_are_there(model: str) -> None:
    run(*arguments(model, "--method", "direct"))
    Path("run/report.md").unlink()
    Image.new("RGB", (256, 128), "gray").save("run/pictures/256x128/direct/0001.png")
    before = written()
    run("eval", "-o", "run", "--report-only")
    assert written() == before
    assert cells() == {("direct", 256): 2}
    assert Path("run/report.md").is_file()
    rows = [json.loads(Path(f"run/rows/256x128/direct/000{index}.json").read_text()) for index in range(2)]
    assert [row["metrics"]["top_octave"] < 1e-12 for row in rows] == [False, True]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--method", "cascad"], "did you mean 'cascade'"),
        (["--size", "250x128"], "192 and 256"),
        (["--size", "big"], "WIDTHxHEIGHT"),
        (["--pictures", "1"], "at least 2"),
        (["--features", "pixels"], "imagenet, critters, inception, none"),
        (["--prompts", "none.txt"], "cannot read the prompts"),
        (["--recipe", "none.toml"], "none.toml"),
        (["--variant", "none.toml"], "cannot read the variant"),
        (["--method", "direct", "--method", "direct"], "asked for twice"),
        (["--scheduler", "eulr"], "did you mean 'euler'"),
        (["--real", "none", "--method", "direct"], "no folder"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(model: str, more: list[str], told: str) -> None:
    assert told in complaint(run(*arguments(model, *more), code=2))
    assert not Path("run").exists()


def test_a_variant_cannot_set_what_is_the_runs(model: str) -> None:
    Path("v.toml").write_text('method = "direct"\nseed = 3\n')
    assert "cannot set seed" in complaint(run(*arguments(model, "--variant", "v.toml"), code=2))
    Path("v.toml").write_text('methd = "direct"\n')
    assert "did you mean 'method'" in complaint(run(*arguments(model, "--variant", "v.toml"), code=2))


def test_another_model_needs_prompts_of_its_own(model: str) -> None:
    assert "--prompts FILE" in complaint(run("eval", "--model", model, "--features", "none", code=2))


def test_report_only_of_nothing_is_wrong_use() -> None:
    assert "run it without --report-only" in complaint(run("eval", "-o", "nothing", "--report-only", code=2))


def test_a_missing_extra_is_named_before_any_work(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that is blocked stands for a package that is not installed."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    told = complaint(run(*arguments(model), code=1))
    assert "pyarrow" in told
    assert "scalecrafter[evaluation]" in told
    assert not Path("run").exists()


@pytest.mark.slow
def test_ctrl_c_tells_how_to_go_on_and_the_same_command_does(model: str) -> None:
    given = arguments(model, "--method", "direct", "--pictures", "60", "--steps", "4")
    process = subprocess.Popen(
        [sys.executable, "-m", "scalecrafter", *given],
        env={**os.environ, "PYTHONPATH": str(SRC), "HF_HUB_OFFLINE": "1"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while len(list(Path("run/pictures").rglob("*.png"))) < 3:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=300)
    before = written()
    assert process.returncode == 1
    assert out == ""
    assert errors.strip().splitlines()[-1] == "scalecrafter: stopped"
    assert f"{len(before)} pictures are finished and stay in run" in errors
    assert not list(Path("run").rglob("*.part"))

    run(*arguments(model, "--method", "direct", "--pictures", str(len(before) + 1), "--steps", "4"))
    assert {name: written()[name] for name in before} == before
    assert cells() == {("direct", 256): len(before) + 1}


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (600, "10 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_times_are_told_in_units_that_matter(seconds: float, text: str) -> None:
    assert in_hours(seconds) == text
