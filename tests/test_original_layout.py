"""U-Nets that other programs build in the original layout: their layers by diffusers' names, changed for one call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn

from scalecrafter.errors import ModelError
from scalecrafter.ops.redilation import redilated_convolution
from scalecrafter.patching.one_call import changed_convolutions, place_by_sigmas, resolved_for
from scalecrafter.recipes.recipe import Recipe
from scalecrafter.unet.architecture import read_architecture
from scalecrafter.unet.original_layout import original_architecture
from tests.support.ldm_checkpoint import unet_state
from tests.support.original_unet import equal, original_module
from tests.support.tiny_models import tiny_sd_unet, tiny_sdxl_unet

RECIPE = Recipe.parse(
    'architecture = "any"\n[redilation]\nuntil = 0.5\nlayers = { "down_blocks.1" = 2, "mid_block" = 3 }\n'
    '[dispersion]\nuntil = 0.3\nlayers = ["down_blocks.2.downsamplers.0"]\n',
    "a test",
)


@pytest.mark.parametrize(
    ("make", "family"),
    [
        (tiny_sd_unet, "any"),
        (lambda: tiny_sd_unet(cross_attention_dim=768, layers_per_block=1), "sd15"),
        (lambda: tiny_sd_unet(cross_attention_dim=1024), "sd21"),
        (tiny_sdxl_unet, "sdxl"),
    ],
)
def test_every_convolution_has_its_name_and_its_weight(make: Callable[[], Any], family: str) -> None:
    unet = make()
    ours, theirs = read_architecture(unet), original_architecture(original_module(unet_state(unet)), 16)
    assert theirs.family == family == ours.family
    assert (theirs.levels, theirs.native_height) == (ours.levels, 16)
    assert theirs.convolutions.keys() == ours.convolutions.keys()
    for name, (convolution,) in theirs.convolutions.items():
        assert equal(convolution.weight, ours.convolutions[name][0].weight)
    assert theirs.ldm_names == ours.ldm_names


def test_another_model_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="Sequential is no U-Net of the Stable Diffusion"):
        original_architecture(nn.Sequential())


def test_convolutions_are_changed_within_the_block_and_as_before_after_it_exceptions_too() -> None:
    architecture = original_architecture(original_module(unet_state(tiny_sd_unet())))
    resolved = resolved_for(RECIPE, architecture, 32, 32)
    assert resolved is not None
    changes = resolved.structure(Fraction(0))
    assert len(changes.dispersed) == 1
    convolution = architecture.convolutions["mid_block.resnets.0.conv1"][0]
    features = torch.randn(1, convolution.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = convolution(features)
    with suppress(RuntimeError), changed_convolutions(architecture, resolved, changes):
        changed = convolution(features)
        raise RuntimeError
    wanted = redilated_convolution(
        features, convolution.weight, convolution.bias, (1, 1), (1, 1), (3.0, 3.0), kernel_size=3
    )
    assert torch.equal(changed, wanted)
    assert not torch.equal(changed, plain)
    assert torch.equal(convolution(features), plain)
    assert all("_conv_forward" not in one.__dict__ for (one,) in architecture.convolutions.values())


def test_the_automatic_recipe_leaves_the_native_size_alone() -> None:
    architecture = original_architecture(original_module(unet_state(tiny_sd_unet(cross_attention_dim=768))))
    assert resolved_for(None, architecture, 64, 64) is None
    large = resolved_for(None, architecture, 128, 128)
    assert large is not None
    assert large.recipe == Recipe.load("sd15-1024x1024")


@pytest.mark.parametrize(
    ("sigma", "start", "place"),
    [
        (14.6, 0.0, Fraction(0)),
        (7.0, 0.0, Fraction(1, 4)),
        (5.0, 0.0, Fraction(1, 4)),  # between two entries, as a sampler of second order asks
        (1.0, 0.0, Fraction(3, 4)),
        (7.00001, 0.0, Fraction(1, 4)),
        (7.0, 0.3, Fraction(1, 4)),  # leading spacing begins one step late
        (7.0, 0.5, Fraction(1, 2) + Fraction(1, 2) * Fraction(1, 4)),  # image to image
    ],
)
def test_the_place_is_the_index_in_the_samplers_table(sigma: float, start: float, place: Fraction) -> None:
    assert place_by_sigmas(sigma, [14.6, 7.0, 3.0, 1.0, 0.0], start) == place
