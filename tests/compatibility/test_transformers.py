"""Transformers: on, right, gone after `remove`, and nothing at the native size, for each family."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import scalecrafter
from scalecrafter import Recipe

from ..support.made_once import MadeOnce
from ..support.reference_transformers import Reference, by_hand
from ..support.tiny_transformers import CASES, Case

NATIVE = (8, 8)
LARGE = (12, 10)
NATIVE_TOKENS, TOKENS = 64, 120
ROTARY = [name for name in CASES if name != "sana"]

families = pytest.mark.parametrize("family", list(CASES))
rotary_families = pytest.mark.parametrize("family", ROTARY)


@pytest.fixture(scope="module")
def pipes() -> dict[str, Any]:
    """One pipeline a family for all tests, which leave it as it was."""
    return MadeOnce(lambda family: CASES[family].make())


@pytest.fixture
def case(family: str, pipes: dict[str, Any]) -> tuple[Case, Any]:
    """A family's case and its pipeline."""
    return CASES[family], pipes[family]


def recipe(family: str, method: str = "yarn", temperature: Any = "entropy", **more: Any) -> Recipe:
    """Positions and attention (for Sana, dilation) from a native size of 8 × 8 tokens."""
    if family == "sana":
        return Recipe.from_mapping({"redilation": {"until": 1, "layers": {"transformer_blocks": 2}}} | more)
    sections = {"positions": {"method": method}, "attention": {"temperature": temperature}}
    return Recipe.from_mapping({"native": list(NATIVE)} | sections | more)


def same(one: Tensor, other: Tensor) -> bool:
    """To the bit."""
    return torch.equal(one, other)


def close(one: Tensor, other: Tensor) -> bool:
    """To the rounding of float32, through the whole network and its steps."""
    return bool((one - other).abs().max() <= 2e-5 * other.abs().max())


@families
def test_a_larger_picture_changes_and_after_remove_it_is_as_before(family: str, case: tuple[Case, Any]) -> None:
    one, pipe = case
    before = one.run(pipe, *LARGE)
    attributes = dict(pipe.transformer.__dict__), dict(pipe.scheduler.__dict__).keys()
    scalecrafter.apply(pipe, recipe=recipe(family))
    changed = one.run(pipe, *LARGE)
    scalecrafter.remove(pipe)
    assert not close(changed, before)
    assert same(one.run(pipe, *LARGE), before)
    assert pipe.transformer.__dict__.keys() == attributes[0].keys()
    assert pipe.scheduler.__dict__.keys() == attributes[1]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipe.transformer.modules())
    assert not any("forward" in module.__dict__ for module in pipe.transformer.modules())


@pytest.mark.parametrize(("method", "temperature"), [("yarn", "entropy"), ("interpolate", "yarn"), ("ntk", 1.3)])
@rotary_families
def test_the_prediction_is_that_of_embeddings_replaced_by_hand(
    family: str, case: tuple[Case, Any], method: str, temperature: Any
) -> None:
    one, pipe = case
    if family == "sd3" and temperature == "yarn":  # has no cos and sin to multiply
        temperature = 1.3
    with scalecrafter.applied(pipe, recipe=recipe(family, method, temperature)):
        ours = one.run(pipe, *LARGE)
    magnitude, factor = 1.0, 1.0
    if temperature == "yarn":
        magnitude = 0.1 * math.log(math.sqrt(TOKENS / NATIVE_TOKENS)) + 1
    else:
        factor = math.sqrt(math.log(TOKENS) / math.log(NATIVE_TOKENS)) if temperature == "entropy" else temperature
    with by_hand(pipe, family, Reference(method, NATIVE, LARGE, magnitude), factor):
        theirs = one.run(pipe, *LARGE)
    assert close(ours, theirs)


@families
def test_at_the_native_size_nothing_changes(family: str, case: tuple[Case, Any]) -> None:
    one, pipe = case
    size = pipe.transformer.config.get("sample_size") or 8
    before = one.run(pipe, size, size)
    chosen = None if family == "sana" else recipe(family, **({"schedule": {"shift": "native"}} if one.shifts else {}))
    for named in {None, chosen}:
        with scalecrafter.applied(pipe, recipe=named):
            assert same(one.run(pipe, size, size), before)


@families
def test_a_then_b_then_a_is_a_again(family: str, case: tuple[Case, Any]) -> None:
    one, pipe = case
    plain = one.run(pipe, *LARGE)
    first, second = recipe(family), recipe(family, "interpolate", 1.5)
    if family == "sana":
        second = Recipe.from_mapping({"redilation": {"until": 0.5, "layers": {"transformer_blocks.0": [1, 2.5]}}})
    pictures = []
    for named in (first, second, first):
        scalecrafter.apply(pipe, recipe=named)
        pictures.append(one.run(pipe, *LARGE))
        if named is second:
            one.run(pipe, 9, 11)  # another size in between
    scalecrafter.remove(pipe)
    assert same(pictures[0], pictures[2])
    assert not close(pictures[0], pictures[1])
    assert same(one.run(pipe, *LARGE), plain)


@families
def test_an_exception_leaves_nothing_behind(family: str, case: tuple[Case, Any]) -> None:
    one, pipe = case
    before = one.run(pipe, *LARGE)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    block = next(module for name, module in pipe.transformer.named_modules() if name.endswith("s.0"))
    handle = block.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt), scalecrafter.applied(pipe, recipe=recipe(family)):
        one.run(pipe, *LARGE)
    handle.remove()
    assert same(one.run(pipe, *LARGE), before)


@families
def test_a_batch_is_its_pictures(family: str, case: tuple[Case, Any]) -> None:
    one, pipe = case
    with scalecrafter.applied(pipe, recipe=recipe(family)):
        both = one.run(pipe, *LARGE, images=2)
        alone = one.run(pipe, *LARGE)
    assert both.shape[0] == 2
    assert close(both[:1], alone)


@rotary_families
def test_an_axis_that_is_not_larger_keeps_its_positions(family: str, case: tuple[Case, Any]) -> None:
    one, pipe = case
    wide = (6, 12)
    with scalecrafter.applied(pipe, recipe=recipe(family, "interpolate", 1.2)):
        ours = one.run(pipe, *wide)
    with by_hand(pipe, family, Reference("interpolate", NATIVE, wide), 1.2):
        theirs = one.run(pipe, *wide)
    assert close(ours, theirs)


@rotary_families
def test_until_ends_a_section(family: str, case: tuple[Case, Any]) -> None:
    one, pipe = case
    named = recipe(family).to_toml().replace("until = 1.0", "until = 0.5")
    seen: list[tuple[bool, bool]] = []
    scalecrafter.apply(pipe, recipe=Recipe.parse(named))
    calls = pipe.transformer._scalecrafter._calls
    handle = pipe.transformer.register_forward_hook(
        lambda *_: seen.append((calls.now.positions is not None, calls.now.temperature is not None))
    )
    one.run(pipe, *LARGE)
    handle.remove()
    scalecrafter.remove(pipe)
    half = len(seen) // 2
    assert seen == [(True, True)] * half + [(False, False)] * half


@rotary_families
def test_the_automatic_recipe_acts_where_the_model_needs_it(family: str, case: tuple[Case, Any]) -> None:
    one, pipe = case
    native = scalecrafter.plan(pipe, 64 * one.pixels, 64 * one.pixels)
    large = scalecrafter.plan(pipe, 192 * one.pixels, 128 * one.pixels, 4)
    if family != "sd3":  # whose config says 8 tokens
        assert native.resolved is None
        assert large.scales(0) == (3.0, 2.0)
    assert large.recipe is not None
    assert large.recipe.architecture in ("flux" if family == "chroma" else family, "any")
    assert "positions" in str(large)
    assert (large.mu is not None) == one.shifts


def test_a_section_without_use_is_refused(pipes: dict[str, Any]) -> None:
    flux = pipes["flux"]
    sana = pipes["sana"]
    sd3 = pipes["sd3"]
    with pytest.raises(scalecrafter.RecipeError, match="multiplies cos and sin, and the family sd3 has a table"):
        scalecrafter.apply(sd3, recipe=recipe("sd3", temperature="yarn"))
    with pytest.raises(scalecrafter.RecipeError, match=r"family flux has no use for \[redilation\]"):
        scalecrafter.apply(flux, recipe=recipe("sana"))
    with pytest.raises(scalecrafter.RecipeError, match=r"family sana has no use for \[positions\] and \[attention\]"):
        scalecrafter.apply(sana, recipe=recipe("flux"))
    with pytest.raises(scalecrafter.RecipeError, match="is for the architecture 'sd3', and this model is 'flux'"):
        scalecrafter.apply(flux, recipe=recipe("flux", architecture="sd3"))
    with pytest.raises(scalecrafter.RecipeError, match="freeu=True has no effect"):
        scalecrafter.apply(flux, freeu=True)
    with pytest.raises(scalecrafter.RecipeError, match="matches no 3×3 convolution"):
        scalecrafter.apply(sana, recipe=Recipe.from_mapping({"redilation": {"until": 1, "layers": {"down_blocks": 2}}}))


@pytest.mark.parametrize("family", ["z-image", "sd3", "sana"])
def test_a_schedule_without_effect_is_refused(case: tuple[Case, Any]) -> None:
    _, pipe = case
    with pytest.raises(scalecrafter.RecipeError, match="is the same at any size"):
        scalecrafter.apply(pipe, recipe=Recipe.from_mapping({"schedule": {"shift": "native"}}))


@pytest.mark.parametrize("shift", ["native", 0.7])
@pytest.mark.parametrize("family", ["flux", "chroma", "flux2", "qwen-image"])
def test_the_schedule_is_that_of_the_native_size(case: tuple[Case, Any], shift: Any) -> None:
    one, pipe = case
    one.run(pipe, *NATIVE)
    native = pipe.scheduler.sigmas.clone()
    one.run(pipe, *LARGE)
    extrapolated = pipe.scheduler.sigmas.clone()
    named = Recipe.from_mapping({"native": list(NATIVE), "schedule": {"shift": shift}})
    with scalecrafter.applied(pipe, recipe=named):
        one.run(pipe, *LARGE)
        ours = pipe.scheduler.sigmas.clone()
        one.run(pipe, *NATIVE)
        assert same(pipe.scheduler.sigmas, native)
    assert not same(native, extrapolated)
    steps = torch.tensor([1.0, 0.5], dtype=torch.float64)
    by_mu = math.exp(0.7) / (math.exp(0.7) + (1 / steps - 1))
    expected = native if shift == "native" else torch.cat([by_mu, torch.zeros(1)]).float()
    assert torch.allclose(ours, expected, rtol=1e-6, atol=1e-7)
    one.run(pipe, *LARGE)
    assert same(pipe.scheduler.sigmas, extrapolated)


@pytest.mark.parametrize("family", ["z-image", "sd3"])
def test_a_number_sets_a_constant_shift_for_the_run(case: tuple[Case, Any]) -> None:
    one, pipe = case
    sigmas = [1.0, 0.5]  # diffusers before 0.39 has Z-Image's second step of two at 0, which no shift moves
    one.run(pipe, *LARGE, sigmas=sigmas)
    before = pipe.scheduler.sigmas.clone()
    with scalecrafter.applied(
        pipe, recipe=Recipe.from_mapping({"native": list(NATIVE), "schedule": {"shift": math.log(3.0)}})
    ):
        one.run(pipe, *LARGE, sigmas=sigmas)
    assert torch.allclose(pipe.scheduler.sigmas, before)  # whose own shift is 3
    with scalecrafter.applied(pipe, recipe=Recipe.from_mapping({"native": list(NATIVE), "schedule": {"shift": 0.0}})):
        one.run(pipe, *LARGE, sigmas=sigmas)
        assert not torch.allclose(pipe.scheduler.sigmas, before)
        assert pipe.scheduler.shift == 3.0
