"""Offloading and compilation, before and after `apply`: the same pictures, and `remove` still restores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import remove_hook_from_submodules
from torch import Tensor

import scalecrafter
from scalecrafter import Recipe

from .models import tiny_sd_unet

RECIPE = Recipe.parse(
    '[redilation]\nuntil = 0.6\nlayers = { "down_blocks.1" = 2, "mid_block" = 2.5 }\n'
    '[dispersion]\nuntil = 0.4\nlayers = ["mid_block"]\n'
    '[noise_damping]\nuntil = 0.6\nlayers = { "mid_block" = 2 }\n'
)


def evaluate(unet: Any) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, 32, 32, generator=generator)
    text = torch.randn(2, 7, 32, generator=generator)
    with torch.no_grad():
        return [unet(sample, t, text).sample for t in (900, 500, 100)]


@pytest.fixture(scope="module")
def expected() -> list[Tensor]:
    unet = tiny_sd_unet()
    with scalecrafter.applied(unet, recipe=RECIPE):
        return evaluate(unet)


@pytest.mark.parametrize("first", ["offload", "apply"])
def test_sequential_offload_in_either_order(expected: list[Tensor], first: str) -> None:
    unet = tiny_sd_unet()
    plain = evaluate(unet)
    if first == "apply":
        scalecrafter.apply(unet, recipe=RECIPE)
    cpu_offload(unet, torch.device("cpu"))
    assert unet.conv_in.weight.device.type == "meta"
    if first == "offload":
        scalecrafter.apply(unet, recipe=RECIPE)
    for _ in range(2):
        for ours, theirs in zip(evaluate(unet), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    scalecrafter.remove(unet)
    for ours, theirs in zip(evaluate(unet), plain, strict=True):
        assert torch.equal(ours, theirs)
    remove_hook_from_submodules(unet)


def test_offload_taken_off_while_applied(expected: list[Tensor]) -> None:
    unet = tiny_sd_unet()
    cpu_offload(unet, torch.device("cpu"))
    scalecrafter.apply(unet, recipe=RECIPE)
    remove_hook_from_submodules(unet)
    for ours, theirs in zip(evaluate(unet), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "in_place"), [("apply", False), ("compile", True)])
def test_compilation_in_either_order(first: str, in_place: bool) -> None:
    torch._dynamo.reset()
    unet: Any = tiny_sd_unet(layers_per_block=1)
    plain = evaluate(unet)
    with scalecrafter.applied(unet, recipe=RECIPE):
        expected = evaluate(unet)
    if first == "apply":
        scalecrafter.apply(unet, recipe=RECIPE)
    if in_place:
        unet.compile(backend="eager")
    else:
        unet = torch.compile(unet, backend="eager")
    if first == "compile":
        scalecrafter.apply(unet, recipe=RECIPE)
    for ours, theirs in zip(evaluate(unet), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    scalecrafter.remove(unet)
    for ours, theirs in zip(evaluate(unet), plain, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_half_precision_runs_close_to_single(expected: list[Tensor]) -> None:
    unet = tiny_sd_unet().to(torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, 32, 32, generator=generator).bfloat16()
    text = torch.randn(2, 7, 32, generator=generator).bfloat16()
    with torch.no_grad(), scalecrafter.applied(unet, recipe=RECIPE):
        output = unet(sample, 900, text).sample
    assert output.dtype == torch.bfloat16
    difference = (output.float() - expected[0]).norm() / expected[0].norm()
    assert difference < 0.1
