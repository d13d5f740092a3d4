"""What is known to be wrong without torch is refused before torch is imported, and in a moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
import sys
from scalecrafter.cli import main
try:
    main()
finally:
    print("imported:", *sorted({"torch", "diffusers", "transformers", "numpy"} & set(sys.modules)))
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
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


def run(*arguments: str) -> tuple[int, str, float]:
    """The exit code, what was printed, and the seconds of computing."""
    before = computed()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "PYTHONPATH": str(SRC), "COLUMNS": "80"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout, computed() - before


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("generate x --size 500x500", "448 and 512"),
        ("generate x --image none.png", "cannot read the image 'none.png'"),
        ("generate x --image not.png", "cannot read the image 'not.png'"),
        ("generate x --image start.png --mask none.png", "cannot read the mask"),
        ("generate x --control a/b=none.png", "cannot read the control image"),
        ("generate x --recipe none.toml", "no file is named"),
        ("generate x --recipe bad.toml", "did you mean 'until'"),
        ("generate x --model nothing", "there is no model"),
        ("generate x --model empty", "no model_index.json"),
        ("generate x --model inpainting", "is an inpainting model"),
        ("generate x --config empty", "leave it out"),
        ("generate x --device gpu", "device is 'gpu'"),
        ("generate x --vae-memory 200KiB", "too little"),
        ("generate x -o no/a.png", "there is no folder"),
        ("generate x -o /proc/a.png", "cannot write into the folder"),
        ("generate --from none.png", "there is no file"),
        ("compare x --size 500x500", "448 and 512"),
        ("compare x --image none.png", "cannot read the image"),
        ("plan --size 500x500", "448 and 512"),
        ("plan --model nothing", "there is no model"),
        ("recipes check bad.toml --model nothing", "there is no model"),
        ("doctor --model nothing", "there is no model"),
        ("eval --size 500x500", "448 and 512"),
        ("eval --method nothing", "there is no method"),
        ("serve --model nothing", "there is no model"),
        ("batch none.jsonl -o out", "there is no file"),
        ("batch jobs.txt -o out", ".jsonl, .csv or .parquet"),
        ("batch none.jsonl -o out --ray", "there is no file"),
    ],
)
def test_a_refusal_comes_before_torch(arguments: str, told: str) -> None:
    inpainting_model("inpainting")
    before = set(os.listdir())
    code, printed, seconds = run(*arguments.split())
    assert told in " ".join(printed.split())
    assert code in (1, 2)
    assert printed.count("scalecrafter: ") == 1
    assert "torch" not in printed.partition("imported:")[2]
    assert "diffusers" not in printed.partition("imported:")[2]
    assert seconds < LONGEST
    assert set(os.listdir()) == before


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
