"""The search over settings: its grids and its ranking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.search import ranked, tries
from scalecrafter.request.request import Request

GRID = """
[span]
recipe = '''
[redilation]
until = <until>
layers = { "mid_block" = 2 }
'''
grid.until = [0.4, 1.0]

[cascade]
method = "cascade"
cascade = { guidance = 2.0 }
grid."cascade.restart" = [0.2, 0.4]
grid."cascade.guidance_interval" = [[0.0, 1.0], [0.2, 0.8]]
"""


def test_every_combination_is_a_request_with_a_label_of_its_own() -> None:
    found = tries(GRID)
    assert [choice.label for choice in found] == [
        "span-until=0.4", "span-until=1.0",
        "cascade-restart=0.2-guidance_interval=0.0,1.0", "cascade-restart=0.2-guidance_interval=0.2,0.8",
        "cascade-restart=0.4-guidance_interval=0.0,1.0", "cascade-restart=0.4-guidance_interval=0.2,0.8",
    ]  # fmt: skip
    requests = [choice.request(Request(prompt="a fox")) for choice in found]
    recipe = requests[0].resolved_recipe()
    assert recipe is not None
    assert recipe.redilation is not None
    assert recipe.redilation.until == 0.4
    settings = requests[3].model_dump()["cascade"]
    assert (settings["restart"], settings["guidance"], settings["guidance_interval"]) == ((0.2,), (2.0,), (0.2, 0.8))


def test_the_grid_that_comes_along_can_be_made() -> None:
    base = Request(prompt="a fox", guidance=2.0)
    text = (Path(__file__).parents[2] / "benchmarks/grids/x4.toml").read_text()
    for choice in tries(text):
        choice.request(base).resolved_recipe()


def cell(method: str, **figures: float) -> dict[str, Any]:
    intervals = {key: {"value": value, "low": value, "high": value} for key, value in figures.items()}
    return {"method": method, "size": [512, 512], "pictures": 8, "figures": intervals}


def order(lines: list[str]) -> list[str]:
    return [line.split(" | ")[0].strip("| ") for line in lines[4:] if line]


def test_the_best_is_first_and_real_pictures_last() -> None:
    cells = [
        cell("real", one_object=1.0),
        cell("blurred", kid_crops_imagenet=0.06, one_object=1.0),
        cell("sharp", kid_crops_imagenet=0.01, one_object=0.5),
        cell("other", one_object=0.9) | {"size": [1024, 1024]},
    ]
    assert order(ranked(cells, (512, 512), "kid_crops_imagenet")) == ["sharp", "blurred", "real"]
    assert order(ranked(cells, (512, 512), "one_object")) == ["blurred", "sharp", "real"]
    assert order(ranked(cells, (1024, 1024), "kid_crops_imagenet")) == ["other"]
