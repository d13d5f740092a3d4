"""The automatic recipe: the published one near its size, in between elsewhere, nothing at the native size."""

from __future__ import annotations

import pytest

import scalecrafter
from scalecrafter import Recipe
from scalecrafter.models.loading import load_outline
from scalecrafter.recipes.automatic import automatic_recipe
from scalecrafter.unet.architecture import Architecture, read_architecture
from tests.support.tiny_models import (
    sd15_unet_meta,
    sd21_unet_meta,
    sdxl_unet_meta,
    tiny_sd_pipeline,
    tiny_sdxl_pipeline,
)

UNETS = {"sd15": sd15_unet_meta(), "sd21": sd21_unet_meta(), "sdxl": sdxl_unet_meta()}
PUBLISHED = ["1024x1024", "1280x1280", "2048x1024", "2048x2048"]
NAMES = [f"{f}-{s}" for f in ("sd15", "sd21") for s in PUBLISHED]
NAMES += [f"sdxl-{s}" for s in ("2048x2048", "2560x2560", "4096x2048", "4096x4096")]


@pytest.mark.parametrize("name", NAMES)
def test_at_a_published_size_it_is_the_published_recipe(name: str) -> None:
    family, size = name.split("-")
    width, height = map(int, size.split("x"))
    for h, w in ((height, width), (width, height), (height + 64, width)):
        assert scalecrafter.plan(UNETS[family], h, w).recipe == Recipe.load(name)


@pytest.mark.parametrize("family", UNETS)
def test_at_the_native_size_there_is_none(family: str) -> None:
    side = 1024 if family == "sdxl" else 512
    assert scalecrafter.plan(UNETS[family], side, side).recipe is None
    assert scalecrafter.plan(UNETS[family], side // 2, side).recipe is None


def test_sdxl_is_left_alone_at_the_shapes_it_was_trained_for() -> None:
    for height, width in ((832, 1216), (1216, 832), (768, 1344), (640, 1536)):
        assert scalecrafter.plan(UNETS["sdxl"], height, width).recipe is None


def test_factors_follow_the_size_on_each_axis() -> None:
    factors = scalecrafter.plan(UNETS["sd15"], 512, 768).factors(0)
    assert set(factors.values()) == {(1.0, 1.5)}
    factors = scalecrafter.plan(UNETS["sd15"], 768, 1536).factors(0)
    assert factors["down_blocks.1.resnets.0.conv1"] == (1.5, 2.333)
    assert factors["mid_block.resnets.0.conv1"] == (1.5, 3.0)


@pytest.mark.parametrize("family", UNETS)
def test_every_size_has_a_recipe_that_grows_with_it(family: str) -> None:
    side = 1024 if family == "sdxl" else 512
    deepest = []
    for ratio in (1.25, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.5, 4, 5, 6, 8):
        told = scalecrafter.plan(UNETS[family], int(side * ratio), int(side * ratio))
        assert told.recipe is not None
        deepest.append(told.resolved.redilated["mid_block.resnets.0.conv1"][0])  # type: ignore[union-attr]
    assert deepest == sorted(deepest)
    assert deepest[0] == pytest.approx(1.25)


def test_an_unknown_unet_gets_every_level_but_the_finest_for_the_first_half() -> None:
    pipe = tiny_sd_pipeline()
    levels, side = len(pipe.unet.config.block_out_channels), pipe.unet.config.sample_size * 8
    told = scalecrafter.plan(pipe, side * 2, side * 2, num_inference_steps=10)

    def blocks(step: int) -> set[str]:
        named = told.factors(step).items()
        return {name.split(".resnets")[0] for name, factors in named if "resnets" in name and factors != (1.0, 1.0)}

    coarse = {f"down_blocks.{level}" for level in range(1, levels)} | {f"up_blocks.{k}" for k in range(levels - 1)}
    assert blocks(0) == blocks(4) == coarse | {"mid_block"}
    assert blocks(5) == blocks(9) == set()
    assert {told.factors(0)[name] for name in told.factors(0) if "resnets" in name} == {(1.0, 1.0), (2.0, 2.0)}
    assert {factors for name, factors in told.factors(0).items() if "upsamplers" in name} == {(1.0, 1.0)}


def test_an_unknown_unets_factors_follow_the_area_and_fall_towards_the_finest_level() -> None:
    architecture = read_architecture(load_outline("critters"))
    side = architecture.native_height

    def levels(height: int, width: int) -> list[float]:
        recipe = automatic_recipe(architecture, height, width)
        assert recipe is not None
        assert recipe.redilation is not None
        layers = recipe.redilation.layers
        assert layers["mid_block"] == layers["down_blocks.3"]
        assert all(layers[f"down_blocks.{level}"] == layers[f"up_blocks.{3 - level}"] for level in range(4))
        assert "up_blocks.3.upsamplers" not in layers  # the finest level has none
        for up in ("up_blocks.0", "up_blocks.1", "up_blocks.2"):  # one neighbour of a doubled pixel is its copy
            assert layers[f"{up}.upsamplers"] == tuple(max(factor / 2, 1.0) for factor in layers[up])
        assert all(down == across for down, across in layers.values())
        return [layers[f"down_blocks.{level}"][0] for level in range(4)]

    assert levels(side * 4, side * 4) == [2.0, 3.0, 4.0, 4.0]
    assert levels(side * 2, side * 4) == levels(side * 4, side * 2) == [1.414, 2.0, 3.0, 3.0]
    assert levels(side * 4, side) == levels(side * 2, side * 2) == [1.0, 2.0, 2.0, 2.0]
    assert levels(side * 5 // 2, side * 5 // 2) == [1.25, 2.0, 3.0, 3.0]  # whole numbers from two on
    assert levels(side * 3 // 2, side * 3 // 2) == [1.0, 1.5, 1.5, 1.5]
    assert levels(side * 8, side * 8) == [4.0, 6.0, 8.0, 8.0]
    assert automatic_recipe(architecture, side * 3 // 2, side * 3 // 4) is None  # another shape of the native area


def test_a_tiny_sdxl_counts_as_sdxl_by_its_anatomy() -> None:
    pipe = tiny_sdxl_pipeline()
    side = pipe.unet.config.sample_size * 8
    told = scalecrafter.plan(pipe, side * 2, side * 2)
    assert told.recipe == Recipe.load("sdxl-2048x2048")
    assert isinstance(told.architecture, Architecture)
