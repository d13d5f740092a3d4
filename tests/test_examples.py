"""The examples run as they are, at small sizes."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs_and_leaves_a_picture(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--size", "128", "--steps", "3", *(["--stop-after", "2"] if "cancel" in name else [])]
    monkeypatch.setattr("sys.argv", [name, *small, "-o", "made.png"])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert capsys.readouterr().out.splitlines()[-1] == "made.png"
    with Image.open("made.png") as image:
        darkest, brightest = image.convert("L").getextrema()
        assert darkest < brightest


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads((EXAMPLES / "tour.ipynb").read_text("utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    code = "\n".join("".join(cell["source"]) for cell in cells)
    assert "SIZE, STEPS = 512, 25" in code
    names: dict[str, object] = {}
    exec(code.replace("SIZE, STEPS = 512, 25", "SIZE, STEPS = 128, 3"), names)
    assert "ScaleCrafter plan: 128×128" in capsys.readouterr().out
    assert names["result"].image.size == (128, 128)


def test_the_page_of_examples_links_to_each() -> None:
    linked = set(re.findall(r"\]\(([\w.]+)\)", (EXAMPLES / "README.md").read_text("utf-8")))
    assert linked == {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
