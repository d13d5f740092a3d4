"""The real architectures: SD 1.5 runs one step with random weights; SD 2.1 and SDXL are planned on the meta device."""

from __future__ import annotations

import gc

import pytest
import torch
from diffusers import UNet2DConditionModel

import scalecrafter
from scalecrafter import Recipe
from scalecrafter.recipes.recipe import shipped_recipes
from tests.support.tiny_models import sd15_unet_meta, sd21_unet_meta, sdxl_unet_meta

UNETS = {"sd15": sd15_unet_meta, "sd21": sd21_unet_meta, "sdxl": sdxl_unet_meta}


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name.split("-")[0] in UNETS])
def test_every_shipped_recipe_fits_the_real_architecture(name: str) -> None:
    recipe = Recipe.load(name)
    assert recipe.height
    assert recipe.width
    plan = scalecrafter.plan(UNETS[recipe.architecture](), recipe.height, recipe.width, 50, recipe=recipe)  # type: ignore[index]
    assert plan.factors(0)
    assert plan.architecture.family == recipe.architecture
    if name.endswith("-disperse"):
        assert len(plan.dispersed(0)) > 10
        assert plan.dispersed(49) == []


def with_random_weights(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A U-Net of the meta device, with weights that repeat one block of noise: drawing 860 million takes long."""
    unet = unet.to_empty(device="cpu").eval()
    block = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if parameter.ndim >= 2:
                scale = (parameter.numel() // parameter.shape[0]) ** -0.5
                for piece in parameter.view(-1).split(len(block)):
                    torch.mul(block[: len(piece)], scale, out=piece)
            else:
                parameter.fill_(float(name.endswith("weight")))
    return unet


@pytest.mark.slow
def test_a_real_sd15_runs_a_redilated_and_a_plain_step() -> None:
    unet = with_random_weights(sd15_unet_meta())
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(1, 4, 128, 8, generator=generator)  # a narrow strip of 1024×1024, for time
    text = torch.randn(1, 77, 768, generator=generator)
    seen: list[tuple[int, int]] = []
    convolution = unet.mid_block.resnets[0].conv1
    with torch.no_grad(), scalecrafter.applied(unet):
        convolution.register_forward_hook(lambda _m, _a, out: seen.append(tuple(out.shape[-2:])))
        early = unet(sample, 900, text).sample
        late = unet(sample, 100, text).sample
    assert seen == [(16, 1), (16, 1)]
    assert early.shape == late.shape == sample.shape
    assert bool(torch.isfinite(early).all())
    assert bool(torch.isfinite(late).all())
    for width, factors in ((256, (2.0, 1.0)), (512, (2.0, 1.0)), (1024, (2.0, 2.0))):
        planned = scalecrafter.plan(unet, 1024, width).factors(0)
        assert len(planned) == 39  # as many as the published list of sd1.5_1024x1024 has
        assert set(planned.values()) == {factors}
    del unet
    gc.collect()
