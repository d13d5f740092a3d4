"""The scripts behind `scalecrafter eval`: the shipped prompts are what they make, real pictures are those scenes."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skia")

from scalecrafter.evaluation.inspection import agreeing, make_inspector
from scalecrafter.evaluation.prompts import critters_prompts
from scalecrafter.evaluation.real_pictures import SHIPPED, SIGNATURE, real_rows
from scalecrafter.evaluation.rows import read_parquet
from tests.support.disc_observer import disc_inspector, uncounted
from training.critters.evaluation_prompts import prompts, says
from training.critters.real_pictures import SIZES, real_pictures, write_figures, write_pictures
from training.critters.renderer import render
from training.critters.scene import Animal, sample_scene


def test_the_shipped_prompts_are_what_the_script_makes() -> None:
    made = list(islice(prompts(), 30))
    shipped = critters_prompts()[:30]
    assert [entry["prompt"] for entry in made] == [prompt.text for prompt in shipped]
    assert [entry["scene"] for entry in made] == [prompt.scene for prompt in shipped]


def test_what_a_prompt_promises_is_what_its_scene_shows() -> None:
    for prompt in critters_prompts():
        assert prompt.scene is not None
        animal = sample_scene(prompt.scene).animals[0].animal
        assert prompt.expected == {
            "species": animal.species, "colour": animal.colour, "accessory": animal.accessory
        }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("a red fox with a blue hat in the snow", True),
        ("a red fox in the snow", False),
        ("a fox with a blue hat in the snow", False),
        ("a red animal with a blue hat", False),
        ("a red fox with a green hat in the snow", False),
        ("a red fox with a blue scarf", False),
    ],
)
def test_a_caption_that_leaves_something_open_is_not_taken(text: str, complete: bool) -> None:
    assert says(text, Animal("fox", "red", accessory="hat", accessory_colour="blue")) is complete


def test_a_bare_animal_is_not_described_as_wearing_something() -> None:
    bare = Animal("fox", "red")
    assert says("a red fox in the snow", bare)
    assert not says("a red fox with a blue hat", bare)


def test_real_pictures_are_the_scenes_of_the_prompts(tmp_path: Path) -> None:
    write_pictures(tmp_path, "64x48", 2)
    scene = critters_prompts()[1].scene
    assert scene is not None
    with Image.open(tmp_path / "64x48" / "0001.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), render(sample_scene(scene), 64, 48))


def test_shipped_figures_are_found_again_by_size(tmp_path: Path) -> None:
    shipped = tmp_path / "real" / "critters.parquet"
    write_figures(shipped, ["64x64", "64x48"], 3, disc_inspector())
    found, origin = real_rows((64, 48), 2, disc_inspector(), None, shipped, uncounted)
    assert origin.startswith("shipped")
    assert [(row.width, row.height, row.index) for row in found] == [(64, 48, 0), (64, 48, 1)]
    prompts = critters_prompts()
    assert [(row.prompt, row.expected) for row in found] == [(prompt.text, prompt.expected) for prompt in prompts[:2]]
    _, picture = next(real_pictures("64x48", 1))
    assert found[0].metrics.animals == disc_inspector().inspect(picture).animals


def test_the_shipped_figures_are_of_the_shipped_prompts_in_the_world_that_is_shipped() -> None:
    """They are to be made anew whenever world, prompts or observer change: `training.critters.real_pictures --ship`."""
    rows, metadata = read_parquet(SHIPPED)
    assert {f"{row.width}x{row.height}" for row in rows} == set(SIZES)
    texts = [prompt.text for prompt in critters_prompts()]
    assert all(row.prompt == texts[row.index] for row in rows)
    _, picture = next(real_pictures("256x256", 1))
    (first,) = (row for row in rows if (row.width, row.height, row.index) == (256, 256, 0))
    assert first.metrics.spectrum == pytest.approx(
        make_inspector("none", observe=False).inspect(picture).spectrum, rel=0.01
    )
    assert "critters" in agreeing(json.loads(metadata[SIGNATURE]), make_inspector("critters", observe=True).signature())
