"""The package as others get it: a wheel, outside of the checkout; and what the README tells them to type."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from PIL import Image
from typer.testing import CliRunner

from scalecrafter.cli import app
from scalecrafter.generation.picture_files import read_request

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
QUICK = {
    "generate": ["--steps", "2"],
    "compare": ["--steps", "1", "--size", "128x128"],
    "enlarge": ["--steps", "4"],
    "batch": ["--steps", "1", "--size", "128x128"],
    "eval": ["--steps", "1", "--size", "128x128", "--features", "none"],
}
"""What a command is given beside what the README says, so that it takes seconds."""
SMALLER = {"768x512": "192x128", "1024x1024": "320x320", "512x512": "128x128"}


@pytest.mark.slow
def test_the_wheel_draws_a_large_picture_outside_of_the_checkout_in_under_a_minute_of_one_core(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    _run([*pip, "wheel", *offline, "--wheel-dir", str(tmp_path), str(ROOT)], tmp_path)
    (wheel,) = tmp_path.glob("scalecrafter-*.whl")
    with ZipFile(wheel) as contents:
        names = contents.namelist()
        contents.extractall(tmp_path / "installed")  # a wheel without scripts is installed by unpacking it
    assert not [name for name in names if name.startswith(("tests/", "training/", "benchmarks/", "docs/"))]

    code = "import scalecrafter, scalecrafter.cli; print(scalecrafter.__file__); scalecrafter.cli.main()"
    alone = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    before = processor_seconds()
    command = ["generate", "a blue fox with a red scarf in the snow", "--seed", "1", "-o", "fox.png"]
    made = _run([sys.executable, "-c", code, *command], tmp_path, alone)
    assert processor_seconds() - before < 60
    assert made.splitlines()[0].startswith(str(tmp_path / "installed"))
    with Image.open(tmp_path / "fox.png") as image:
        assert image.size == (512, 512)
    assert read_request(tmp_path / "fox.png").seed == 1


def processor_seconds() -> float:
    """Of all processes that were started and have ended (0 on Windows); a busy machine does not add to it."""
    used = os.times()
    return used.children_user + used.children_system


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) <= 150
    links = re.findall(r"\]\(([^)#]+)\)", README)
    gone = [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()]
    assert not gone


@pytest.mark.slow
def test_the_commands_of_the_readme_work_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")  # for batch and eval
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    shell = "".join(re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
    ran = []
    for line in shell.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["echo"]:
            Path(words[-1]).write_text(words[1] + "\n")
        if words[:1] == ["scalecrafter"] and words[1] != "ui":  # the server's tests start it
            typed = [SMALLER.get(word, word) for word in words[1:]]
            if words[1] == "generate" and not {"--size", "--from"} & {*words}:
                typed += ["--size", "128x128"]
            result = CliRunner().invoke(app, [*typed, *QUICK.get(words[1], [])], catch_exceptions=False)
            assert result.exit_code == 0, f"{line}\n{result.output}"
            ran.append(words[1])
    assert set(ran) >= {"generate", "enlarge", "compare", "plan", "recipes", "doctor", "batch", "eval"}


def test_the_oldest_releases_are_those_that_the_package_admits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = dict(re.findall(r"^([\w.-]+)==([\w.]+)$", (ROOT / "constraints-oldest.txt").read_text(), re.MULTILINE))
    extras = project["optional-dependencies"]
    listed = [
        *project["dependencies"],
        *(one for name in ("server", "batch", "evaluation", "sde", "mat", "plot", "heic") for one in extras[name]),
    ]
    lowest = dict(re.findall(r"([\w-]+)(?:\[[\w,]+\])?>=([\w.]+)", "\n".join(listed)))
    padded = {name: [*map(int, version.split(".")), 0, 0][:3] for name, version in lowest.items()}
    assert {name: [*map(int, named[name].split(".")), 0, 0][:3] for name in lowest} == padded


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
