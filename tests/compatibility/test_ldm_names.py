"""Recipes name layers as diffusers does or as the original checkpoints do, and mean the same."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

import scalecrafter
from scalecrafter import Recipe, RecipeError
from scalecrafter.recipes.recipe import shipped_recipes
from scalecrafter.recipes.resolution import resolve
from scalecrafter.unet.architecture import read_architecture
from tests.support import tiny_architectures as tiny
from tests.support.tiny_models import sd15_unet_meta, sd21_unet_meta, sdxl_unet_meta
from tests.support.untrained_video import untrained_pipeline

UNETS = {"sd15": sd15_unet_meta(), "sd21": sd21_unet_meta(), "sdxl": sdxl_unet_meta()}

KNOWN = {
    "sd15": {
        "input_blocks.0.0": "conv_in",
        "input_blocks.1.0.in_layers.2": "down_blocks.0.resnets.0.conv1",
        "input_blocks.3.0.op": "down_blocks.0.downsamplers.0.conv",
        "input_blocks.4.0.in_layers.2": "down_blocks.1.resnets.0.conv1",
        "input_blocks.4.0.skip_connection": "down_blocks.1.resnets.0.conv_shortcut",
        "input_blocks.8.1.proj_in": "down_blocks.2.attentions.1.proj_in",
        "input_blocks.11.0.out_layers.3": "down_blocks.3.resnets.1.conv2",
        "middle_block.0.out_layers.3": "mid_block.resnets.0.conv2",
        "middle_block.2.in_layers.2": "mid_block.resnets.1.conv1",
        "output_blocks.2.1.conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks.5.2.conv": "up_blocks.1.upsamplers.0.conv",
        "output_blocks.11.0.in_layers.2": "up_blocks.3.resnets.2.conv1",
        "out.2": "conv_out",
    },
    "sdxl": {
        "input_blocks.8.0.in_layers.2": "down_blocks.2.resnets.1.conv1",
        "output_blocks.2.2.conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks.6.0.in_layers.2": "up_blocks.2.resnets.0.conv1",
    },
}


@pytest.mark.parametrize("family", KNOWN)
def test_known_layers_have_their_original_names(family: str) -> None:
    names = {original: path for path, original in read_architecture(UNETS[family]).ldm_names.items()}
    assert {original: names[original] for original in KNOWN[family]} == KNOWN[family]


@pytest.mark.parametrize("family", UNETS)
def test_every_name_is_the_one_that_diffusers_reads_checkpoints_by(family: str) -> None:
    """A checkpoint whose tensors stand under our names is converted by diffusers into one under its own."""
    unet = UNETS[family]
    names = read_architecture(unet).ldm_names
    convolutions = [name for name, module in unet.named_modules() if isinstance(module, torch.nn.Conv2d)]
    assert sorted(names) == sorted(convolutions)
    tensors = {
        (path, kind): getattr(unet.get_submodule(path), kind) for path in convolutions for kind in ("weight", "bias")
    }
    checkpoint = {f"model.diffusion_model.{names[path]}.{kind}": tensor for (path, kind), tensor in tensors.items()}
    # what the conversion counts on beside convolutions
    for key in ("middle_block.1.norm", "time_embed.0", "time_embed.2", "out.0", "label_emb.0.0", "label_emb.0.2"):
        for kind in ("weight", "bias"):
            checkpoint[f"model.diffusion_model.{key}.{kind}"] = torch.empty(0)
    converted = convert_ldm_unet_checkpoint(checkpoint, dict(unet.config))
    assert all(converted[f"{path}.{kind}"] is tensor for (path, kind), tensor in tensors.items())


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name.split("-")[0] in UNETS])
def test_a_published_recipe_in_original_names_is_the_same_recipe(name: str) -> None:
    """Every layer of the published lists, written layer by layer in either naming."""
    recipe = Recipe.load(name)
    architecture = read_architecture(UNETS[recipe.architecture])
    told = resolve(recipe, architecture)
    for naming in (lambda path: path, architecture.ldm_names.__getitem__, checkpoint_name(architecture.ldm_names)):
        again = resolve(written_out(recipe, naming, told), architecture)
        assert (again.redilated, again.damped, again.dispersed) == (told.redilated, told.damped, told.dispersed)


def checkpoint_name(names: object) -> Callable[[str], str]:
    return lambda path: f"model.diffusion_model.{names[path]}"  # type: ignore[index]


def written_out(recipe: Recipe, naming: Callable[[str], str], told: object) -> Recipe:
    data = recipe.model_dump()
    data["redilation"]["layers"] = {naming(path): list(axes) for path, axes in told.redilated.items()}  # type: ignore[attr-defined]
    if recipe.noise_damping:
        data["noise_damping"]["layers"] = {naming(path): list(axes) for path, axes in told.damped.items()}  # type: ignore[attr-defined]
    if recipe.dispersion:
        data["dispersion"]["layers"] = [naming(path) for path in told.dispersed]  # type: ignore[attr-defined]
    return Recipe.from_mapping(data)


def factors(unet: UNet2DConditionModel, layers: str) -> dict[str, float]:
    recipe = Recipe.parse(f"[redilation]\nuntil = 1\nlayers = {{ {layers} }}")
    plan = scalecrafter.plan(unet, 1024, 1024, recipe=recipe)
    return {name: axes[0] for name, axes in plan.factors(0).items()}


@pytest.mark.parametrize(
    ("original", "own"),
    [
        ('"middle_block" = 2', '"mid_block" = 2'),
        ('"input_blocks.4" = 2', '"down_blocks.1.resnets.0" = 2'),
        ('"input_blocks.4.0" = 2', '"down_blocks.1.resnets.0" = 2'),
        ('"input_blocks.6" = 3', '"down_blocks.1.downsamplers" = 3'),
        ('"output_blocks.5" = 3', '"up_blocks.1.resnets.2" = 3, "up_blocks.1.upsamplers.0" = 3'),
        ('"input_blocks" = 2', '"down_blocks" = 2'),
        ('"input_blocks.0.0" = 2, "out.2" = 1.5', '"conv_in" = 2, "conv_out" = 1.5'),
    ],
)
def test_prefixes_of_original_names_stand_for_what_is_below_them(original: str, own: str) -> None:
    assert factors(UNETS["sd15"], original) == factors(UNETS["sd15"], own)


def test_of_two_namings_the_more_particular_prefix_wins() -> None:
    got = factors(UNETS["sd15"], '"down_blocks.1" = 2, "input_blocks.4" = 3, "down_blocks.1.resnets.0.conv2" = 4')
    assert got["down_blocks.1.resnets.0.conv1"] == 3
    assert got["down_blocks.1.resnets.0.conv2"] == 4
    assert got["down_blocks.1.resnets.1.conv1"] == 2


def test_the_same_layers_named_twice_are_an_error() -> None:
    with pytest.raises(RecipeError, match=r"'mid_block' and 'middle_block' name the same layers: keep one of them"):
        factors(UNETS["sd15"], '"mid_block" = 2, "middle_block" = 3')


@pytest.mark.parametrize(
    ("misspelt", "near"),
    [("input_block.4.0", "input_blocks.4.0"), ("midle_block", "middle_block"), ("down_block.1", "down_blocks.1")],
)
def test_near_names_are_told_in_both_namings(misspelt: str, near: str) -> None:
    with pytest.raises(RecipeError, match=rf"near ones: .*\b{re.escape(near)}\b"):
        factors(UNETS["sd15"], f'"{misspelt}" = 2')


def test_pruned_and_video_unets_have_original_names_too() -> None:
    koala = read_architecture(tiny.koala_700m()).ldm_names
    assert koala["down_blocks.1.downsamplers.0.conv"] == "input_blocks.4.0.op"
    assert koala["up_blocks.0.resnets.1.conv1"] == "output_blocks.1.0.in_layers.2"
    assert not any(name.startswith("middle_block") for name in koala.values())
    svd = read_architecture(untrained_pipeline("svd")).ldm_names
    assert svd["down_blocks.1.resnets.0.spatial_res_block.conv1"] == "input_blocks.3.0.in_layers.2"
    assert read_architecture(tiny.kandinsky3()).ldm_names == {}
