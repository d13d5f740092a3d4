"""Recipe files: what is read, what is refused, and that saving loses nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scalecrafter import Recipe, RecipeError
from scalecrafter.recipes.recipe import shipped_recipes

FULL = """
architecture = "sd15"
height = 2048
width = 2048
[redilation]
until = 0.7
progressive = true
layers = { "down_blocks.1" = 2, "mid_block" = 2.5, "up_blocks.0" = [2, 3.5] }
[dispersion]
until = 0.4
kernel_size = 5
eta = 0.05
layers = ["mid_block"]
[noise_damping]
until = 0.7
layers = {}
[freeu]
b1 = 1.2
b2 = 1.4
s1 = 0.9
s2 = 0.2
"""


def test_a_factor_is_a_number_or_a_pair() -> None:
    layers = Recipe.parse(FULL).redilation.layers  # type: ignore[union-attr]
    assert layers == {"down_blocks.1": (2.0, 2.0), "mid_block": (2.5, 2.5), "up_blocks.0": (2.0, 3.5)}


@pytest.mark.parametrize("more", ["", 'layers_until = { "mid_block" = 0.4 }'])
def test_save_and_load_give_the_same_recipe(tmp_path: Path, more: str) -> None:
    recipe = Recipe.parse(FULL.replace("[redilation]", f"[redilation]\n{more}"))
    assert ("layers_until" in recipe.to_toml()) == bool(more)
    recipe.save(tmp_path / "copy.toml")
    assert Recipe.load(tmp_path / "copy.toml") == recipe
    assert os.listdir(tmp_path) == ["copy.toml"]


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_load_by_name_and_survive_a_round_trip(name: str) -> None:
    recipe = Recipe.load(name)
    assert Recipe.parse(recipe.to_toml()) == recipe
    assert name.startswith(f"{recipe.architecture}-{recipe.width}x{recipe.height}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no effect"),
        ("height = 512", "no effect"),
        ("[redilation]\nuntil = 0.5\nlayers = {}", "layers"),
        ("[redilation]\nlayers = { a = 2 }", "until is missing"),
        ("[redilation]\nuntil = 1.5\nlayers = { a = 2 }", "until is 1.5"),
        ("[redilation]\nuntil = -0.1\nlayers = { a = 2 }", "until is -0.1"),
        ("[redilation]\nuntil = nan\nlayers = { a = 2 }", "until is nan"),
        ("[redilation]\nuntil = 0.5\nprogresive = true\nlayers = { a = 2 }", "did you mean 'progressive'"),
        ("[redilations]\nuntil = 0.5", "did you mean 'redilation'"),
        ("[redilation]\nuntil = 0.5\nlayers = { a = 0.5 }", "1 or more"),
        ("[redilation]\nuntil = 0.5\nlayers = { a = inf }", "finite"),
        ("[redilation]\nuntil = 0.5\nlayers = { a = [1, 2, 3] }", "number or"),
        ("[redilation]\nuntil = 0.5\nlayers = { a = true }", "number"),
        ("[redilation]\nuntil = 0.5\nlayers = { a = 'x' }", "number or"),
        ("[dispersion]\nuntil = 0.5\nkernel_size = 4\nlayers = ['a']", "odd"),
        ("[dispersion]\nuntil = 0.5\nlayers = []", "layers"),
        ("[noise_damping]\nuntil = 0.5\nlayers = {}", "no effect"),
        ("[freeu]\nb1 = 1", "freeu.b2 is missing"),
        ("architecture = 'sd9'\n[freeu]\nb1=1\nb2=1\ns1=1\ns2=1", "architecture"),
        (
            "[redilation]\nuntil = 0.5\nlayers = { a = 2 }\nlayers_until = { a = 0.7 }",
            "layers_until of 'a' is 0.7, after",
        ),
        ("[redilation]\nuntil = 0.5\nlayers = { a = 2 }\nlayers_until = { a = 0 }", "layers_until.a is 0: it must be"),
        ("[redilation", "not valid TOML"),
        ("a = " + "[" * 5000, "not valid TOML"),
        ("a = " + "1" * 5000, "not valid TOML"),
        ("[redilation]\nuntil = 0.5\nlayers = { a = 1e300 }", "128 or less"),
        ("[dispersion]\nuntil = 0.5\nkernel_size = 501\nlayers = ['a']", "15 or less"),
        ("[dispersion]\nuntil = 0.5\nfeature_size = 99\nlayers = ['a']", "feature_size"),
    ],
)
def test_what_would_have_no_effect_or_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.parse(text)


def test_an_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(RecipeError, match="did you mean 'sd15-2048x2048"):
        Recipe.load("sd15-2048x2047")


def test_a_folder_that_does_not_exist_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot write"):
        Recipe.parse(FULL).save(tmp_path / "no" / "copy.toml")
    assert not list(tmp_path.iterdir())
