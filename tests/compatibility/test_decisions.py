"""What was open and is decided: ControlNet-XS, a bare U-Net's learned variance, DeepCache beside offloading."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import ControlNetXSAdapter, UNetControlNetXSModel
from torch import Tensor

import scalecrafter
from scalecrafter import ModelError, Recipe
from tests.support.small_pipeline import RECIPE, SMALL, latents, small_pipeline
from tests.support.tiny_models import tiny_sd_unet

EVERYWHERE = Recipe.parse('[redilation]\nuntil = 1\nlayers = { "down_blocks" = 2, "mid_block" = 2, "up_blocks" = 2 }')
DAMPED = Recipe.parse('[redilation]\nuntil = 1\nlayers = { "mid_block" = 2 }\n[noise_damping]\nuntil = 1\nlayers = {}')


def test_the_control_half_of_controlnet_xs_is_not_dilated() -> None:
    """It is inside of the U-Net, and a ControlNet nevertheless."""
    unet = tiny_sd_unet(layers_per_block=2)  # as its control half has
    adapter = ControlNetXSAdapter.from_unet(unet, size_ratio=0.5, conditioning_embedding_out_channels=(8, 16))
    both = UNetControlNetXSModel.from_unet(unet, adapter)
    with scalecrafter.applied(both, recipe=EVERYWHERE, guided=False):
        patched = [name for name, module in both.named_modules() if "_conv_forward" in vars(module)]
    ours = set(scalecrafter.plan(unet, 256, 256, recipe=EVERYWHERE).factors(0))
    factors = set(scalecrafter.plan(both, 256, 256, recipe=EVERYWHERE).factors(0))
    assert len(factors) == len(ours)
    assert not [name for name in patched if "ctrl" in name or "control" in name]


def unet_call(unet: Any, channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    sample, text = torch.randn(1, channels, 8, 8, generator=generator), torch.randn(2, 32, 32, generator=generator)
    with torch.no_grad():
        return unet(torch.cat([sample, sample]), 900, text).sample


def test_the_learned_variance_of_a_bare_unet_is_not_damped() -> None:
    """A bare U-Net that makes twice the channels it takes has one, as IF's and Kandinsky's have."""
    unet = tiny_sd_unet(**SMALL, out_channels=8)
    undamped = Recipe.parse('[redilation]\nuntil = 1\nlayers = { "mid_block" = 2 }')
    with scalecrafter.applied(unet, recipe=undamped, guided=True):
        structure = unet_call(unet, 4)
    with scalecrafter.applied(unet, recipe=DAMPED, guided=True):
        damped = unet_call(unet, 4)
    assert torch.equal(damped[:, 4:], structure[:, 4:])
    assert not torch.allclose(damped[:, :4], structure[:, :4])


@pytest.mark.parametrize("first", ["cache", "offload"])
def test_deepcache_is_refused_where_offloading_has_taken_its_place(first: str) -> None:
    """Enabled after model offload, it no longer counts from the second picture on, and reuses wrong features."""
    extension = pytest.importorskip("DeepCache")
    pipe = small_pipeline()
    helper = extension.DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=2, cache_branch_id=0)
    steps = [helper.enable, lambda: pipe.enable_model_cpu_offload(device="cpu")]
    for step in steps if first == "cache" else reversed(steps):
        step()
    scalecrafter.apply(pipe, recipe=RECIPE)
    picture = latents(pipe)
    if first == "cache":
        assert torch.equal(latents(pipe), picture)
        return
    with pytest.raises(ModelError, match=r"enabled after offloading.*helper\.disable\(\)"):
        latents(pipe)
    helper.disable()
    pipe.remove_all_hooks()
    helper.enable()
    pipe.enable_model_cpu_offload(device="cpu")
    assert torch.equal(latents(pipe), picture)
    assert torch.equal(latents(pipe), picture)
