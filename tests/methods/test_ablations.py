"""Each ablation changes the plan as its name says, and is refused where it would change nothing."""

from __future__ import annotations

from typing import Any

import pytest

import scalecrafter
from scalecrafter import Recipe, RecipeError
from scalecrafter.generation.generate import generate
from scalecrafter.recipes.ablations import ABLATIONS, ablated
from scalecrafter.recipes.plan import Plan
from scalecrafter.request.request import Request
from scalecrafter.unet.architecture import Architecture, read_architecture
from tests.support.tiny_models import sd15_unet_meta, sdxl_unet_meta, tiny_sd_pipeline, tiny_sd_unet

STEPS = 10
FULL = Recipe.load("sd15-2048x2048")  # until 0.7, progressive, damped
PLAIN = Recipe.load("sd15-1024x1024")  # until 0.6, factor 2
MID = "mid_block.resnets.0.conv1"
NAMES = list(ABLATIONS)


@pytest.fixture(scope="module")
def sd15() -> Architecture:
    return read_architecture(sd15_unet_meta())


def course(name: str, recipe: Recipe, unet: Any = None) -> Plan:
    unet = unet or sd15_unet_meta()
    changed = ablated(name, recipe, read_architecture(unet), STEPS)
    return scalecrafter.plan(unet, height=2048, width=2048, num_inference_steps=STEPS, recipe=changed)


def strong(plan: Plan, step: int) -> dict[str, tuple[float, float]]:
    factors = plan.damping_factors(step)
    assert factors is not None
    return factors


def test_fixed_does_at_every_step_what_it_does_at_the_first() -> None:
    plan = course("fixed", FULL)
    assert all(plan.factors(step) == plan.factors(0) for step in range(STEPS))
    assert all(strong(plan, step) == strong(plan, 0) for step in range(STEPS))
    assert plan.factors(0)[MID] == (4, 4)


def test_dynamic_stops_early() -> None:
    endless = Recipe.parse('[redilation]\nuntil = 1.0\nlayers = { "mid_block" = 2 }')
    plan = course("dynamic", endless)
    assert [MID in plan.factors(step) for step in range(STEPS)] == [True] * 6 + [False] * 4


def test_spans_of_single_layers_are_changed_as_the_others_are() -> None:
    recipe = Recipe.parse(
        "[redilation]\nuntil = 1.0\nlayers = { 'mid_block' = 2, 'up_blocks.0' = 2, 'up_blocks.1' = 2 }\n"
        "layers_until = { 'up_blocks.0' = 0.9, 'up_blocks.1' = 0.3 }"
    )
    layers = (MID, "up_blocks.0.resnets.0.conv1", "up_blocks.1.resnets.0.conv1")

    def spans(plan: Plan) -> list[int]:
        return [sum(layer in plan.factors(step) for step in range(STEPS)) for layer in layers]

    assert spans(course("fixed", recipe)) == [10, 10, 10]
    assert spans(course("dynamic", recipe)) == [6, 6, 3]


def test_not_progressive_keeps_factors_and_spans() -> None:
    plan = course("not-progressive", FULL)
    assert [plan.factors(step).get(MID) for step in range(STEPS)] == [(4, 4)] * 7 + [None] * 3
    assert strong(plan, 6)[MID] == (4, 4)
    assert plan.damping_factors(7) is None


def test_progressive_shrinks_both_denoisers() -> None:
    still = Recipe.parse(
        '[redilation]\nuntil = 1.0\nlayers = { "mid_block" = 4 }\n'
        '[noise_damping]\nuntil = 1.0\nlayers = { "mid_block" = 3 }'
    )
    plan = course("progressive", still)
    assert [plan.factors(step)[MID][0] for step in (0, 3, 9)] == [4, 3, 2]
    assert [strong(plan, step)[MID][0] for step in (0, 9)] == [3, 2]


def test_undamped_has_one_denoiser_and_the_same_factors() -> None:
    plan, before = course("undamped", FULL), scalecrafter.plan(sd15_unet_meta(), 2048, 2048, STEPS, FULL)
    assert all(plan.damping_factors(step) is None for step in range(STEPS))
    assert all(plan.factors(step) == before.factors(step) for step in range(STEPS))


def test_damped_has_a_strong_denoiser_dilated_half_as_far_in_the_same_span() -> None:
    plan = course("damped", Recipe.parse('[redilation]\nuntil = 0.5\nlayers = { "mid_block" = [4, 2] }'))
    assert [plan.damping_factors(step) is not None for step in range(STEPS)] == [True] * 5 + [False] * 5
    assert strong(plan, 0)[MID] == (2, 1)
    assert plan.factors(0)[MID] == (4, 2)


def test_dispersed_takes_the_published_layers_or_the_deepest() -> None:
    published = Recipe.load("sd15-2048x2048-disperse")
    expected = scalecrafter.plan(sd15_unet_meta(), 2048, 2048, STEPS, published)
    plan = course("dispersed", FULL)
    assert all(plan.dispersed(step) == expected.dispersed(step) for step in range(STEPS))
    assert plan.dispersed(0)
    sdxl = course("dispersed", Recipe.load("sdxl-4096x4096"), sdxl_unet_meta())
    assert "up_blocks.0.resnets.0.conv1" in sdxl.dispersed(0)
    assert not any(name.startswith("up_blocks.1") for name in sdxl.dispersed(0))
    unknown = course(
        "dispersed", Recipe.parse('[redilation]\nuntil = 1.0\nlayers = { "mid_block" = 2 }'), tiny_sd_unet()
    )
    assert {".".join(name.split(".")[:2]) for name in unknown.dispersed(3)} == {
        "down_blocks.2", "down_blocks.3", "mid_block.resnets", "up_blocks.0", "up_blocks.1",
    }  # fmt: skip
    assert unknown.dispersed(4) == []
    assert unknown.factors(0)[MID] == (1, 1)  # seen twice as far by the kernel instead


def test_isotropic_takes_the_geometric_mean_in_both_denoisers() -> None:
    recipe = Recipe.parse(
        '[redilation]\nuntil = 1.0\nlayers = { "mid_block" = [4, 1], "up_blocks.0" = 3 }\n'
        '[noise_damping]\nuntil = 1.0\nlayers = { "mid_block" = [1, 4] }'
    )
    plan = course("isotropic", recipe)
    assert plan.factors(0)[MID] == strong(plan, 0)[MID] == (2, 2)
    assert plan.factors(0)["up_blocks.0.resnets.0.conv1"] == (3, 3)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("fixed", '[redilation]\nuntil = 1.0\nlayers = { "mid_block" = 2 }'),
        ("dynamic", PLAIN.to_toml()),
        ("not-progressive", PLAIN.to_toml()),
        ("not-progressive", '[redilation]\nuntil = 0.5\nprogressive = true\nlayers = { "mid_block" = 2 }'),
        ("progressive", PLAIN.to_toml()),  # factors of 2 cannot shrink
        ("undamped", PLAIN.to_toml()),
        ("damped", FULL.to_toml()),
        ("dispersed", Recipe.load("sd15-2048x2048-disperse").to_toml()),
        ("isotropic", FULL.to_toml()),
    ],
)
def test_an_ablation_that_would_change_nothing_is_refused(name: str, recipe: str, sd15: Architecture) -> None:
    with pytest.raises(RecipeError, match=f"ablation {name} would be the same as scalecrafter here: .*; leave it out"):
        ablated(name, Recipe.parse(recipe), sd15, STEPS)


@pytest.mark.parametrize("name", NAMES)
def test_at_the_native_size_there_is_nothing_to_ablate(name: str) -> None:
    request = Request(prompt="a fox", method=f"scalecrafter-{name}", width=128, height=128)
    with pytest.raises(RecipeError, match="the same as the method direct"):
        generate(tiny_sd_pipeline(), request)


def test_without_a_recipe_the_automatic_one_is_changed() -> None:
    pipe = tiny_sd_pipeline()
    request = Request(prompt="a fox", method="scalecrafter-fixed", steps=5, seed=1, width=256, height=256)
    upsamplers = ", ".join(f'"up_blocks.{level}.upsamplers" = 1' for level in range(3))
    layers = f'down_blocks = 2, mid_block = 2, up_blocks = 2, "down_blocks.0" = 1, "up_blocks.3" = 1, {upsamplers}'
    recipe = f"[redilation]\nuntil = 1.0\nlayers = {{ {layers} }}"
    by_hand = request.changed(scalecrafter=None, recipe=recipe)
    assert generate(pipe, request).image.tobytes() == generate(pipe, by_hand).image.tobytes()
