"""The table of methods: found without torch, open to other packages, and the one thing that everything else reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import scalecrafter
from scalecrafter.request.methods import METHODS, named
from scalecrafter.request.request import Request, RequestError

EXAMPLE = Path(__file__).parents[2] / "examples" / "add_a_method"
SRC = Path(scalecrafter.__file__).parents[1]
DRAWS = """
from scalecrafter.generation.generate import generate
from scalecrafter.request.request import Request
from tests.support.tiny_models import tiny_sd_pipeline
values = {"prompt": "a fox", "steps": 2, "seed": 1, "width": 192, "height": 192}
pipe = tiny_sd_pipeline()
small = generate(pipe, Request.from_mapping(values | {"method": "upscale"})).image
none, some = [
    generate(pipe, Request.from_mapping(values | {"method": "late-sharpening", "late-sharpening": {"amount": amount}}))
    for amount in (0, 2)
]
assert none.image.tobytes() == small.tobytes() != some.image.tobytes()
assert some.request.model_dump(mode="json")["late-sharpening"] == {"amount": 2.0}
"""


def installed(example: Path, folder: Path) -> Path:
    """A folder with the example as pip would install it."""
    project = tomllib.loads((example / "pyproject.toml").read_text("utf-8"))["project"]
    information = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = "\n".join(f"{name} = {value}" for name, value in project["entry-points"]["scalecrafter.methods"].items())
    (information / "entry_points.txt").write_text(f"[scalecrafter.methods]\n{points}\n")
    shutil.copy(example / "late_sharpening.py", folder)
    return folder


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), str(SRC), str(Path(__file__).parents[2])])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_another_packages_method_draws_and_has_its_settings(tmp_path: Path) -> None:
    done = run("-c", DRAWS, folder=installed(EXAMPLE, tmp_path))
    assert done.returncode == 0, done.stderr


def test_another_packages_method_stands_in_the_help_and_its_mistakes_are_told(tmp_path: Path) -> None:
    folder = installed(EXAMPLE, tmp_path)
    shown = run("-m", "scalecrafter", "generate", "--help", folder=folder)
    assert "late-sharpening" in shown.stdout.replace("\n", " ")
    wrong = ["-m", "scalecrafter", "generate", "a fox", "--method", "late-sharpening", "--set", "amuont=1"]
    refused = run(*wrong, folder=folder)
    assert refused.returncode == 2
    assert "did you mean 'amount'" in refused.stderr


def test_a_method_that_cannot_be_imported_is_left_out_with_a_warning(tmp_path: Path) -> None:
    folder = installed(EXAMPLE, tmp_path)
    (folder / "late_sharpening.py").write_text("import no_such_package\n")
    done = run("-c", "from scalecrafter.request.methods import METHODS; print(len(METHODS))", folder=folder)
    assert done.stdout.strip() == str(len(METHODS))
    assert "late-sharpening" in done.stderr
    assert "no_such_package" in done.stderr


def test_the_table_is_read_without_torch() -> None:
    code = "import sys; from scalecrafter.request.methods import METHODS; print(len(METHODS), 'torch' in sys.modules)"
    assert run("-c", code, folder=Path.cwd()).stdout.split() == [str(len(METHODS)), "False"]


def test_an_old_name_is_the_method_with_its_ablation() -> None:
    assert named("scalecrafter-fixed") == ("scalecrafter", {"ablation": "fixed"})
    old = Request(prompt="a fox", method="scalecrafter-fixed")
    assert old == Request.from_mapping({"prompt": "a fox", "scalecrafter": {"ablation": "fixed"}})
    assert old.method_label == "scalecrafter-fixed"
    assert old.changed(method="cascade").settings is None
    with pytest.raises(RequestError, match="did you mean 'fixed'"):
        Request.from_mapping({"prompt": "a fox", "scalecrafter": {"ablation": "fixd"}})


def test_settings_of_another_method_are_refused() -> None:
    with pytest.raises(RequestError, match="settings of cascade have no effect with the method 'direct'"):
        Request.from_mapping({"prompt": "a fox", "method": "direct", "cascade": {"restart": 0.5}})
    with pytest.raises(RequestError, match=r"cascade\.restart"):
        Request.from_mapping({"prompt": "a fox", "method": "cascade", "cascade": {"restart": [0.5, 2]}})
    with pytest.raises(RequestError, match="cascade"):
        Request.from_mapping({"prompt": "a fox", "method": "cascade", "cascade": 5})
