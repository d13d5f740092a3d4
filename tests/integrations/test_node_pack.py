"""The node pack as far as it can be seen without ComfyUI: its nodes, its recipes, its workflows."""

from __future__ import annotations

import json
import runpy
import tomllib
from typing import Any

import pytest

from scalecrafter.errors import ScaleCrafterError
from scalecrafter.recipes.recipe import Recipe, RecipeError
from tests.support.comfy_checkout import PACK, node_pack

NODES: dict[str, Any] = node_pack().NODE_CLASS_MAPPINGS
WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))


def test_every_node_says_what_comfyui_asks_of_it() -> None:
    assert NODES.keys() == node_pack().NODE_DISPLAY_NAME_MAPPINGS.keys()
    for node in NODES.values():
        assert node.CATEGORY == "ScaleCrafter"
        assert callable(getattr(node, node.FUNCTION))
        assert node.RETURN_TYPES
        assert node.DESCRIPTION
        for sockets in node.INPUT_TYPES().values():
            assert all(isinstance(one[0], (str, list)) for one in sockets.values())


def test_recipes_are_those_for_unets_and_a_text_goes_before_a_name() -> None:
    pack = node_pack().nodes
    names = pack.recipe_names()
    assert "sdxl-2048x2048" in names
    assert not [name for name in names if name.startswith("flux")]
    assert pack.chosen_recipe("automatic", "  ") is None
    assert pack.chosen_recipe("sd15-1024x1024", "") == Recipe.load("sd15-1024x1024")
    text = '[redilation]\nuntil = 0.5\nlayers = { "mid_block" = 2 }\n'
    assert pack.chosen_recipe("sd15-1024x1024", text).redilation.until == 0.5
    with pytest.raises(RecipeError, match="the text in the ScaleCrafter node"):
        pack.chosen_recipe("automatic", "[redilation]\nuntil = 2\n")
    with pytest.raises(ScaleCrafterError, match="FreeU node"):
        pack.chosen_recipe("automatic", text + "[freeu]\nb1 = 1.1\nb2 = 1.2\ns1 = 0.9\ns2 = 0.2\n")


def test_a_plan_becomes_a_picture_that_is_large_enough_for_its_text() -> None:
    image = node_pack().nodes.picture_of("one line\nand a much longer second line")
    assert image.shape[0] == 1
    assert image.shape[2] > image.shape[1]
    assert image[0, 0].min() == 1.0  # a white margin
    assert image.min() < 0.5


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_what_its_script_writes_and_its_links_fit(path: Any) -> None:
    script = runpy.run_path(str(PACK / "workflows" / "make.py"))
    assert {path.stem for path in WORKFLOWS} == script["WORKFLOWS"].keys()
    assert path.read_text("utf-8") == script["WORKFLOWS"][path.stem]().json()
    flow = json.loads(path.read_text("utf-8"))
    nodes = {node["id"]: node for node in flow["nodes"]}
    for number, source, output, target, slot, kind in flow["links"]:
        assert nodes[source]["outputs"][output]["type"] == kind == nodes[target]["inputs"][slot]["type"]
        assert nodes[target]["inputs"][slot]["link"] == number
    for node in flow["nodes"]:
        if node["type"] in NODES:
            kinds = NODES[node["type"]].INPUT_TYPES()
            inputs = {**kinds["required"], **kinds.get("optional", {})}
            sockets = [one["name"] for one in node["inputs"]]
            assert len(node["widgets_values"]) == len(inputs) - len(sockets)
            assert [one["type"] for one in node["outputs"]] == list(NODES[node["type"]].RETURN_TYPES)


def test_the_pack_names_what_it_needs() -> None:
    project = tomllib.loads((PACK / "pyproject.toml").read_text("utf-8"))
    assert any(one.startswith("scalecrafter") for one in project["project"]["dependencies"])
    assert project["tool"]["comfy"]["DisplayName"] == "ScaleCrafter"
