"""The shipped recipes against the published settings, layer by layer.

The figures are those of github.com/YingqingHe/ScaleCrafter: `assets/dilate_settings`, `ndcfg_dilate_settings`,
`disperse_settings` and the spans (in steps of 50) of `configs`.  They are written here by block and spelt out to layers
by this file's own list of what a block holds, not by the library's matching of prefixes.
"""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

import scalecrafter
from scalecrafter import Recipe
from scalecrafter.recipes.recipe import shipped_recipes
from tests.support.tiny_models import sd15_unet_meta, sd21_unet_meta, sdxl_unet_meta

UNETS = {"sd15": sd15_unet_meta(), "sd21": sd21_unet_meta(), "sdxl": sdxl_unet_meta()}
Blocks = dict[str, float]

FOR_TRANSFORMERS = {"flux-4096x4096-i-max": math.log(6), "flux-4096x4096-hiflow": 1.15}
"""By name, mu: the logarithm of I-Max's second time shift; the pipeline's own at 1024² for HiFlow."""

DOWN_TO_UP = ("down1", "down2", "down3", "mid", "up0", "up1", "up2")
SD_LARGE: Blocks = {"down1": 2, "down2": 3, "down3": 4, "mid": 4, "up0": 4, "up1": 3, "up2": 2}
SD_LARGE_STRONG: Blocks = {"down2": 3, "down3": 4, "mid": 4, "up0": 4, "up1": 3}
SD21_LARGE: Blocks = {"down2": 3, "down2.down": 4, "down3": 4, "mid": 4, "up0": 4, "up1": 4, "up2": 3, "up3": 2}
SD21_LARGE_STRONG: Blocks = {"down2": 3, "down2.down": 4, "down3": 4, "mid": 4, "up0": 4, "up1": 4, "up2": 3}
SDXL_WIDE: Blocks = {"down2": 3, "mid": 4, "up0": 4, "up1": 3, "up2": 2}
SDXL_LARGE: Blocks = {"down2": 4, "mid": 4, "up0": 4, "up1": 3, "up2": 2}
SDXL_STRONG: Blocks = {"mid": 2, "up0": 2}
SD_DISPERSED = ("down2.down", "down3", "mid", "up0", "up1")
SDXL_DISPERSED = ("down2", "mid", "up0")

PUBLISHED: dict[str, tuple[int, bool, Blocks, Blocks | None, tuple[str, ...]]] = {
    # name: steps of re-dilation out of 50, progressive, factors, the strong denoiser's, dispersed
    "sd15-1024x1024": (30, False, dict.fromkeys(DOWN_TO_UP, 2), None, ()),
    "sd15-1280x1280": (35, False, dict.fromkeys(DOWN_TO_UP, 2.5), None, ()),
    "sd15-2048x1024": (35, True, SD_LARGE, SD_LARGE_STRONG, ()),
    "sd15-2048x2048": (35, True, SD_LARGE, SD_LARGE_STRONG, ()),
    "sd15-2048x2048-disperse": (35, True, SD_LARGE, SD_LARGE_STRONG, SD_DISPERSED),
    "sd21-1024x1024": (20, False, dict.fromkeys(DOWN_TO_UP, 2), None, ()),
    "sd21-1280x1280": (30, False, dict.fromkeys(DOWN_TO_UP, 2.5), None, ()),
    "sd21-2048x1024": (37, True, SD_LARGE, None, ()),
    "sd21-2048x2048": (37, True, SD21_LARGE, SD21_LARGE_STRONG, ()),
    "sd21-2048x2048-disperse": (37, True, SD21_LARGE, SD21_LARGE_STRONG, SD_DISPERSED),
    "sdxl-2048x2048": (30, False, {"mid": 2, "up0": 2}, None, ()),
    "sdxl-2560x2560": (30, False, {"mid": 2.5, "up0": 2.5}, None, ()),
    "sdxl-4096x2048": (35, True, SDXL_WIDE, SDXL_STRONG, ()),
    "sdxl-4096x4096": (35, True, SDXL_LARGE, SDXL_STRONG, ()),
    "sdxl-4096x4096-disperse": (35, True, SDXL_LARGE, SDXL_STRONG, SDXL_DISPERSED),
}


def layers_of(block: str, levels: int) -> list[str]:
    """The 3×3 convolutions of one block of Stable Diffusion's U-Nets."""
    if block == "down2.down":
        return ["down_blocks.2.downsamplers.0.conv"]
    if block == "mid":
        return [f"mid_block.resnets.{k}.conv{c}" for k in (0, 1) for c in (1, 2)]
    kind, index = ("down", block[4:]) if block.startswith("down") else ("up", block[2:])
    path = f"{kind}_blocks.{index}"
    layers = [f"{path}.resnets.{k}.conv{c}" for k in range(2 if kind == "down" else 3) for c in (1, 2)]
    return layers + ([f"{path}.{kind}samplers.0.conv"] if int(index) < levels - 1 else [])


def spelt_out(blocks: Blocks, levels: int) -> dict[str, tuple[float, float]]:
    return {layer: (factor, factor) for block, factor in blocks.items() for layer in layers_of(block, levels)}


def test_all_published_recipes_are_shipped_and_no_others() -> None:
    assert set(shipped_recipes()) == {*PUBLISHED, *FOR_TRANSFORMERS}


@pytest.mark.parametrize("name", FOR_TRANSFORMERS)
def test_a_recipe_for_flux_has_the_figures_of_its_source(name: str) -> None:
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(num_layers=1, num_single_layers=1)
    pipe = FluxPipeline(FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), *[None] * 5, transformer)
    plan = scalecrafter.plan(pipe, 4096, 4096, 30, recipe=name)
    assert plan.scales(0) == plan.scales(29) == (4.0, 4.0)
    assert plan.temperature(0) == pytest.approx(math.sqrt(math.log(256 * 256) / math.log(64 * 64)))
    assert plan.mu == pytest.approx(FOR_TRANSFORMERS[name])
    scaling = plan.changes(0).positions.scaling
    rates = scaling.frequencies(56, 10000.0, 4.0, 64)
    for pair, rate in enumerate(rates.tolist()):  # clipped at interpolation
        plain, stretched = 10000 ** (-2 * pair / 56), (10000 * 10) ** (-2 * pair / 56)
        assert rate == pytest.approx(max(stretched, plain / 4), rel=1e-12)


@pytest.mark.parametrize("name", PUBLISHED)
def test_shipped_recipe_is_the_published_one_layer_by_layer(name: str) -> None:
    steps, progressive, factors, strong, dispersed = PUBLISHED[name]
    recipe, (family, size) = Recipe.load(name), name.split("-")[:2]
    width, height = map(int, size.split("x"))
    levels = 3 if family == "sdxl" else 4
    assert (recipe.architecture, recipe.width, recipe.height) == (family, width, height)
    assert recipe.redilation is not None
    assert recipe.redilation.progressive == progressive

    plan = scalecrafter.plan(UNETS[family], height, width, 50, recipe=recipe)
    assert plan.resolved is not None
    assert dict(plan.resolved.redilated) == spelt_out(factors, levels)
    assert dict(plan.resolved.damped) == spelt_out(strong or {}, levels)
    assert plan.resolved.dispersed == {layer for block in dispersed for layer in layers_of(block, levels)}
    assert [bool(plan.factors(step)) for step in range(50)] == [step < steps for step in range(50)]
    damped = [plan.damping_factors(step) is not None for step in range(50)]
    assert damped == [strong is not None and step < steps for step in range(50)]
    # the published dispersion spans are 0 steps long and never ran; ours run for 20
    assert [bool(plan.dispersed(step)) for step in range(50)] == [bool(dispersed) and step < 20 for step in range(50)]
