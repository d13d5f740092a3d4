"""What is known to be wrong without torch is refused before torch is imported, and in a moment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

import scalecrafter
from scalecrafter._util.sizes import check_size
from scalecrafter.cli.output import check_output
from scalecrafter.errors import SizeError
from scalecrafter.request.request import RequestError

SRC = Path(scalecrafter.__file__).parents[1]
LONGEST = 3.0
"""Seconds of computing, which do not depend on what else the machine does; importing diffusers alone takes more."""
PROGRAM = """
import json, os, sys
from scalecrafter.cli import main

def run():
    try:
        main()
    finally:
        heavy = {"torch", "diffusers", "transformers", "numpy"} & set(sys.modules)
        print("imported:", *sorted(heavy), flush=True)

if sys.argv[1:]:
    run()
for command in json.load(sys.stdin) if not sys.argv[1:] else ():
    sys.argv[1:] = command.split()
    if os.fork() == 0:  # each command in a process of its own, as if it had just been started
        run()
    _, status, used = os.wait3(0)
    seconds = used.ru_utime + used.ru_stime
    print("ended:", os.waitstatus_to_exitcode(status), seconds, flush=True)
"""
"""With arguments: one command.  Without: those in a JSON list on standard input, the imports done once."""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs()


def write_inputs() -> None:
    """What the commands name."""
    Path("bad.toml").write_text("[redilation]\nuntill = 0.5\n")
    Path("not.png").write_text("no picture")
    Path("empty").mkdir()
    Image.new("RGB", (64, 64)).save("start.png")


def inpainting_model(folder: str) -> None:
    """As much of a diffusers folder as is read before loading."""
    texts = {
        "model_index.json": {"_class_name": "StableDiffusionInpaintPipeline", "unet": [], "vae": []},
        "unet/config.json": {"sample_size": 64, "in_channels": 9, "down_block_types": ["a", "b", "c", "d"]},
        "vae/config.json": {"block_out_channels": [1, 2, 3, 4], "latent_channels": 4},
    }
    for name, content in texts.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def computed() -> float:
    """Seconds that the processes started here have computed."""
    return os.times().children_user + os.times().children_system


Answer = tuple[int, str, float]
"""The exit code, what was printed, and the seconds of computing."""


def run(*arguments: str, given: str | None = None) -> Answer:
    """Of a process that is started for it."""
    before = computed()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "PYTHONPATH": str(SRC), "COLUMNS": "80"},
        text=True,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout, computed() - before


def run_all(commands: Sequence[str]) -> dict[str, Answer]:
    """Of each command.  Where processes can be copied, what they import is imported once."""
    if not hasattr(os, "fork"):
        return {command: run(*command.split()) for command in commands}
    _, printed, _ = run(given=json.dumps(commands))
    parts = re.split(r"^ended: (-?\d+) ([\d.e-]+)\n", printed, flags=re.MULTILINE)
    assert parts.pop() == ""
    answers = zip(parts[1::3], parts[::3], parts[2::3], strict=True)
    told = [(int(code), text, float(seconds)) for code, text, seconds in answers]
    return dict(zip(commands, told, strict=True))


REFUSALS = {
    "generate x --size 500x500": "448 and 512",
    "generate x --image none.png": "cannot read the image 'none.png'",
    "generate x --image not.png": "cannot read the image 'not.png'",
    "generate x --image start.png --mask none.png": "cannot read the mask",
    "generate x --control a/b=none.png": "cannot read the control image",
    "generate x --recipe none.toml": "no file is named",
    "generate x --recipe bad.toml": "did you mean 'until'",
    "generate x --model nothing": "there is no model",
    "generate x --model empty": "no model_index.json",
    "generate x --model inpainting": "is an inpainting model",
    "generate x --config empty": "leave it out",
    "generate x --device gpu": "device is 'gpu'",
    "generate x --vae-memory 200KiB": "too little",
    "generate x -o no/a.png": "there is no folder",
    "generate x -o /proc/a.png": "cannot write into the folder",
    "generate --from none.png": "there is no file",
    "compare x --size 500x500": "448 and 512",
    "compare x --image none.png": "cannot read the image",
    "plan --size 500x500": "448 and 512",
    "plan --model nothing": "there is no model",
    "recipes check bad.toml --model nothing": "there is no model",
    "doctor --model nothing": "there is no model",
    "eval --size 500x500": "448 and 512",
    "eval --method nothing": "there is no method",
    "serve --model nothing": "there is no model",
    "batch none.jsonl -o out": "there is no file",
    "batch jobs.txt -o out": ".jsonl, .csv or .parquet",
    "batch none.jsonl -o out --ray": "there is no file",
}
"""What is typed, and what is told."""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """The answers, in a folder that stays as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("refusals"))
        write_inputs()
        inpainting_model("inpainting")
        before = set(os.listdir())
        answers = run_all(list(REFUSALS))
        assert set(os.listdir()) == before
    return answers


@pytest.mark.xdist_group("refusals")
@pytest.mark.parametrize(("command", "told"), REFUSALS.items())
def test_a_refusal_comes_before_torch(refusals: dict[str, Answer], command: str, told: str) -> None:
    code, printed, seconds = refusals[command]
    assert told in " ".join(printed.split())
    assert code in (1, 2)
    assert printed.count("scalecrafter: ") == 1
    assert "torch" not in printed.partition("imported:")[2]
    assert "diffusers" not in printed.partition("imported:")[2]
    assert seconds < LONGEST


def test_a_refusal_takes_a_moment_with_its_start() -> None:
    code, printed, seconds = run("generate", "x", "--size", "500x500")
    assert code == 2
    assert "448 and 512" in printed
    assert seconds < LONGEST


@pytest.mark.sampled
@pytest.mark.parametrize("command", ["generate", "compare", "batch", "eval", "serve", "disperse", "recipes check"])
def test_help_shows_whole_names_and_no_type_of_flags_at_80_columns(command: str) -> None:
    code, printed, _ = run(*command.split(), "--help")
    assert code == 0
    assert "…" not in printed
    assert "<bool>" not in printed
    assert "imported:" in printed
    assert "torch" not in printed.partition("imported:")[2]


def test_both_wrong_sides_are_named_and_a_name_of_an_ending_alone_is_told() -> None:
    both = "height 500 is not a multiple of 64 .* 448 and 512; width 300 is neither; .* 256 and 320"
    with pytest.raises(SizeError, match=both):
        check_size(height=500, width=300, multiple=64)
    with pytest.raises(RequestError, match=r"'\.png' has no name before its ending"):
        check_output(Path(".png"))
