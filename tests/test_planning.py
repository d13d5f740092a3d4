"""From recipe and U-Net to the factor of every layer at every step, number by number."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
from diffusers import HeunDiscreteScheduler

import scalecrafter
from scalecrafter import Recipe, RecipeError, SizeError
from tests.support.tiny_models import sd15_unet_meta, sd21_unet_meta, sdxl_unet_meta, tiny_sd_pipeline

SD15, SD21, SDXL = sd15_unet_meta(), sd21_unet_meta(), sdxl_unet_meta()


def plan(unet: object, text: str, steps: int = 50) -> scalecrafter.Plan:
    return scalecrafter.plan(unet, 1024, 1024, steps, recipe=Recipe.parse(text))


def test_a_prefix_stands_for_the_3x3_convolutions_below_it() -> None:
    names = plan(SD15, '[redilation]\nuntil = 1\nlayers = { "down_blocks.1" = 2 }').factors(0)
    assert set(names) == {
        "down_blocks.1.resnets.0.conv1",
        "down_blocks.1.resnets.0.conv2",
        "down_blocks.1.resnets.1.conv1",
        "down_blocks.1.resnets.1.conv2",
        "down_blocks.1.downsamplers.0.conv",
    }  # not the 1×1 conv_shortcut, not the attentions' 1×1 projections
    assert set(names.values()) == {(2.0, 2.0)}


def test_a_prefix_ends_where_a_name_ends() -> None:
    text = '[redilation]\nuntil = 1\nlayers = { "down_blocks.1.resnets.0.conv" = 2 }'
    with pytest.raises(RecipeError, match=r"near ones: down_blocks\.1\.resnets\.0\.conv"):
        plan(SD15, text)


def test_the_longest_prefix_wins() -> None:
    text = '[redilation]\nuntil = 1\nlayers = { "down_blocks.1" = 2, "down_blocks.1.resnets.1" = 3 }'
    factors = plan(SD15, text).factors(0)
    assert factors["down_blocks.1.resnets.0.conv1"] == (2.0, 2.0)
    assert factors["down_blocks.1.resnets.1.conv1"] == (3.0, 3.0)


def test_other_convolutions_are_touched_only_if_named_in_full() -> None:
    text = '[redilation]\nuntil = 1\nlayers = { "conv_in" = 2, "down_blocks.1.resnets.0.conv_shortcut" = 2 }'
    assert set(plan(SD15, text).factors(0)) == {"conv_in", "down_blocks.1.resnets.0.conv_shortcut"}
    with pytest.raises(RecipeError, match="3×3"):
        plan(SD15, '[dispersion]\nuntil = 1\nlayers = ["down_blocks.1.resnets.0.conv_shortcut"]')


@pytest.mark.parametrize("steps", [7, 10, 20, 25, 30, 50, 100])
@pytest.mark.parametrize("until", [0.1, 0.3, 0.4, 0.6, 0.7, 0.74, 0.9, 1.0])
def test_spans_and_progressive_factors_are_exact(steps: int, until: float) -> None:
    layers = '{ mid_block = [3, 4.5], "up_blocks.0" = [1, 2] }'
    text = f"[redilation]\nuntil = {until}\nprogressive = true\nlayers = {layers}"
    told, exact = plan(SD15, text, steps), Fraction(str(until))
    for step in range(steps):
        factors = told.factors(step)
        assert bool(factors) == (step / steps < until)
        if factors:
            shrink = 1 - Fraction(step, steps) / exact
            expected = tuple(float(max(ceil(Fraction(str(d)) * shrink), 2)) for d in (3, 4.5))
            assert factors["mid_block.resnets.0.conv1"] == expected
            assert factors["up_blocks.0.resnets.0.conv1"] == (1.0, 2.0)  # an axis that is not dilated stays so


def test_some_layers_end_sooner_each_with_its_own_progress() -> None:
    told = plan(
        SD15,
        "[redilation]\nuntil = 0.8\nprogressive = true\nlayers = { mid_block = 8, 'up_blocks.0' = 8 }\n"
        'layers_until = { "up_blocks.0" = 0.4, "up_blocks.0.resnets.1" = 0.2 }',
        10,
    )
    layers = ("mid_block.resnets.0.conv1", "up_blocks.0.resnets.0.conv1", "up_blocks.0.resnets.1.conv1")
    course = [[told.factors(step).get(layer, (0.0, 0.0))[0] for step in range(10)] for layer in layers]
    assert course == [[8, 7, 6, 5, 4, 3, 2, 2, 0, 0], [8, 6, 4, 2, 0, 0, 0, 0, 0, 0], [8, 4, 0, 0, 0, 0, 0, 0, 0, 0]]


def test_an_end_for_layers_that_are_not_redilated_is_refused() -> None:
    text = '[redilation]\nuntil = 1\nlayers = {{ mid_block = 2 }}\nlayers_until = {{ "{0}" = 0.5 }}'
    with pytest.raises(RecipeError, match=r"layers_until of 'up_blocks\.0': no layer below it is re-dilated"):
        plan(SD15, text.format("up_blocks.0"))
    with pytest.raises(RecipeError, match="near ones: mid_block"):
        plan(SD15, text.format("mid_blok"))


def test_rounding_cannot_push_a_factor_up() -> None:
    # 4 · (1 − 35/(100 · 0.7)) is exactly 2, but 2.0000000000000004 in binary arithmetic of some orders
    text = "[redilation]\nuntil = 0.7\nprogressive = true\nlayers = { mid_block = 6 }"
    assert plan(SD15, text, 100).factors(35)["mid_block.resnets.0.conv1"] == (3.0, 3.0)


def test_a_dispersed_layer_has_half_its_factor_while_dispersed() -> None:
    told = plan(
        SD15,
        "[redilation]\nuntil = 0.8\nlayers = { mid_block = [1, 3] }\n"
        '[dispersion]\nuntil = 0.4\nlayers = ["mid_block"]\n'
        "[noise_damping]\nuntil = 0.6\nlayers = { mid_block = 4 }",
        10,
    )
    name = "mid_block.resnets.0.conv1"
    assert [told.factors(s).get(name) for s in (0, 3, 4, 7, 8)] == [(0.5, 1.5), (0.5, 1.5), (1, 3), (1, 3), None]
    assert [len(told.dispersed(s)) for s in (0, 3, 4)] == [4, 4, 0]
    damping = [told.damping_factors(s) for s in (0, 4, 6)]
    assert damping[0] is not None
    assert damping[0][name] == (2, 2)
    assert damping[1] is not None
    assert damping[1][name] == (4, 4)
    assert damping[2] is None


def test_noise_damping_without_layers_is_the_original_model() -> None:
    told = plan(SD15, "[redilation]\nuntil = 1\nlayers = { mid_block = 2 }\n[noise_damping]\nuntil = 0.5\nlayers = {}")
    assert told.damping_factors(0) == {}
    assert told.damping_factors(25) is None


def test_steps_count_the_schedulers_table() -> None:
    pipe = tiny_sd_pipeline()
    pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    told = scalecrafter.plan(pipe, 256, 256, 10)
    assert told.steps == 19
    with pytest.raises(IndexError, match="19 steps"):
        told.factors(19)


def test_a_wrong_size_names_the_two_nearest_good_ones() -> None:
    with pytest.raises(SizeError, match="960 and 1024"):
        scalecrafter.plan(SD15, 1000, 1024)
    with pytest.raises(SizeError, match=r"multiple of 32 .* 1984 and 2016"):
        scalecrafter.plan(SDXL, 2048, 2000)


def test_a_printed_plan_is_a_table_of_what_happens() -> None:
    text = str(scalecrafter.plan(SD15, 2048, 2048, 50, recipe="sd15-2048x2048-disperse"))
    assert "0–8" in text
    assert "35–49" in text
    assert "5×5" in text
    assert "nothing changes" in str(scalecrafter.plan(SD15, 512, 512))


def test_layers_of_one_block_with_other_factors_are_told_apart_in_the_table() -> None:
    recipe = '[redilation]\nuntil = 0.5\nlayers = { mid_block = 2, "up_blocks.0" = 3, "up_blocks.0.upsamplers" = 1.5 }'
    lines = str(scalecrafter.plan(SD15, 1024, 1024, 50, recipe=Recipe.parse(recipe))).splitlines()
    rows = [line.replace("0–24", "").split()[:2] for line in lines if "_block" in line]
    assert rows == [["up_blocks.0.resnets", "3"], ["up_blocks.0.upsamplers", "1.5"], ["mid_block", "2"]]


def test_families_are_read_from_the_anatomy() -> None:
    assert [scalecrafter.plan(u, 1024, 1024).architecture.family for u in (SD15, SD21, SDXL)] == [
        "sd15",
        "sd21",
        "sdxl",
    ]
    assert scalecrafter.plan(tiny_sd_pipeline(), 256, 256).architecture.family == "any"


@pytest.mark.parametrize(
    ("name", "unet"), [("sdxl-2048x2048", SD15), ("sd15-2048x2048", SD21), ("sd15-1024x1024", SDXL)]
)
def test_a_recipe_of_another_architecture_is_refused(name: str, unet: object) -> None:
    with pytest.raises(
        RecipeError, match=rf"the recipe is for the architecture {name[:4]}, and this U-Net is of the fam"
    ):
        scalecrafter.plan(unet, 2048, 2048, 50, recipe=name)
    with pytest.raises(RecipeError, match="take another recipe"):
        scalecrafter.apply(unet, recipe=name)
    assert not unet._forward_pre_hooks  # type: ignore[attr-defined]


def test_a_recipe_for_any_architecture_fits_all() -> None:
    for unet in (SD15, SD21, SDXL, tiny_sd_pipeline().unet):
        assert plan(unet, 'architecture = "any"\n[redilation]\nuntil = 1\nlayers = { "mid_block" = 2 }').factors(0)


def test_a_recipe_of_a_family_is_refused_for_a_unet_of_none() -> None:
    with pytest.raises(RecipeError, match="this U-Net is of none of the known families"):
        scalecrafter.plan(tiny_sd_pipeline(), 256, 256, 50, recipe="sd15-1024x1024")
