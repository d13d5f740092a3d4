"""What image viewers of this field read in a picture: `sd-parsers` is the judge."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from sd_parsers import ParserManager

from scalecrafter.generation.generate import Result
from scalecrafter.generation.picture_files import save_picture
from scalecrafter.request.request import Request

SETTING = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""One setting, as AUTOMATIC1111's web UI reads it: a value in quotes is JSON."""
PROMPT = "a fox, sitting: (red:1.2) in the snow"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("critters", "critters"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "stable-diffusion-xl-base-1.0"),
        ("SG161222/Realistic_Vision_V5.1_noVAE", "Realistic_Vision_V5.1_noVAE"),
        ("/models/sd-v1.5", "sd-v1.5"),
        ("/models/sd-v1.5/", "sd-v1.5"),
        ("C:\\models\\mine.v2.safetensors", "mine.v2"),
    ],
)
def test_viewers_read_model_prompt_and_settings(model: str, name: str, tmp_path: Path) -> None:
    request = Request(
        prompt=PROMPT, negative="blur, text", guidance=7.5, seed=1, width=64, height=128, model=model, method="cascade"
    )
    environment = {"sampler": "DPM++ 2M Karras"}
    path = save_picture(Result(Image.new("RGB", (64, 128)), request, 0.0, None, environment), tmp_path / "a.png")
    told = ParserManager().parse(path)
    assert told is not None
    assert [model.name for model in told.models] == [name]
    assert [prompt.value for prompt in told.prompts] == [PROMPT]
    assert [prompt.value for prompt in told.negative_prompts] == ["blur, text"]
    (sampler,) = told.samplers
    assert (sampler.name, sampler.parameters["steps"], sampler.parameters["seed"]) == ("DPM++ 2M Karras", "25", "1")
    assert told.metadata["Method"] == "cascade"
    assert told.metadata["Size"] == "64x128"


def test_a_name_with_commas_and_colons_is_quoted(tmp_path: Path) -> None:
    request = Request(prompt="a fox", seed=1, width=64, height=64, model="/models/a, b: c.safetensors", method="direct")
    path = save_picture(Result(Image.new("RGB", (64, 64)), request, 0.0, None, {}), tmp_path / "a.png")
    with Image.open(path) as picture:
        found = dict(SETTING.findall(picture.text["parameters"].splitlines()[-1]))
    assert json.loads(found["Model"]) == "a, b: c"
    assert (found["Seed"], found["Size"]) == ("1", "64x64")
