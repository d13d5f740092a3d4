"""Modules, weights and tables that change between calls of a U-Net: noticed at the next one, wherever it begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline
from PIL import Image
from torch import Tensor, nn

import scalecrafter
from scalecrafter import ModelError, Recipe
from tests.support.small_pipeline import RECIPE, SMALL, difference, expected, latents, small_pipeline
from tests.support.tiny_models import tiny_sd_unet

peft = pytest.importorskip("peft")

DISPERSED = Recipe.parse(
    '[redilation]\nuntil = 1.0\nlayers = { "mid_block" = 2 }\n[dispersion]\nuntil = 1.0\nlayers = ["mid_block"]\n'
)
PICTURE = Image.linear_gradient("L").convert("RGB").resize((64, 64))


def add_lora(pipe: Any) -> None:
    torch.manual_seed(3)
    pipe.unet.add_adapter(peft.LoraConfig(r=4, target_modules=["conv1", "conv2"], init_lora_weights=False), "x")


def add_another_lora(pipe: Any) -> None:
    add_lora(pipe)
    pipe.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["conv1"], init_lora_weights=False), "y")
    pipe.set_adapters(["x", "y"])


def fuse_lora(pipe: Any) -> None:
    add_lora(pipe)
    pipe.unet.fuse_lora()


def write_weights(pipe: Any) -> None:
    for module in pipe.unet.mid_block.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.mul_(1.1)  # which leaves no trace in the weight's version


def replace_a_block(pipe: Any) -> None:
    pipe.unet.mid_block = tiny_sd_unet(seed=5, **SMALL).mid_block


def late_run(pipe: Any) -> Tensor:
    """Image to image, whose first step is the fourth of ten."""
    other = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    return other(
        "a fox", image=PICTURE, strength=0.6, num_inference_steps=10, generator=generator, output_type="latent"
    ).images


@pytest.mark.sampled
@pytest.mark.parametrize("change", [add_lora, add_another_lora, fuse_lora, write_weights, replace_a_block])
@pytest.mark.parametrize("recipe", [RECIPE, DISPERSED], ids=["everything", "dispersed"])
def test_a_change_is_noticed_by_a_run_that_begins_later_than_the_last_one_ended(
    recipe: Recipe, change: Callable[[Any], None]
) -> None:
    results = []
    for anew in (False, True):
        pipe = small_pipeline()
        scalecrafter.apply(pipe, recipe=recipe)
        latents(pipe, num_inference_steps=1)
        change(pipe)
        if anew:
            scalecrafter.apply(pipe, recipe=recipe)
        results.append(late_run(pipe))
    assert torch.equal(*results)


def test_an_adapter_that_is_no_lora_is_refused_by_a_run_that_begins_late() -> None:
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    latents(pipe, num_inference_steps=1)
    config = peft.LoKrConfig(r=2, alpha=2, target_modules=["conv1"], init_weights=False)
    peft.inject_adapter_in_model(config, pipe.unet, "x")
    with pytest.raises(ModelError, match="an adapter of the kind lokr"):
        late_run(pipe)


def test_unloading_what_was_loaded_gives_the_first_result_again() -> None:
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    plain = latents(pipe)
    add_lora(pipe)
    assert difference(latents(pipe), plain) > 1e-3
    pipe.unload_lora_weights()
    assert torch.equal(latents(pipe), plain)


def test_timesteps_that_are_written_to_are_read_again() -> None:
    """Six of eight steps are dropped from the front in place, as a custom schedule does."""
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    patch = pipe.unet.mid_block.resnets[0].conv1.__dict__["_conv_forward"]
    pipe.scheduler.set_timesteps(4)
    sample, text = torch.randn(2, 4, 8, 8), torch.randn(2, 32, 32)

    def factors(timestep: int) -> Any:
        with torch.no_grad():
            pipe.unet(sample, timestep, text)
        return patch._state.now.factors

    timestep = int(pipe.scheduler.timesteps[3])
    assert factors(timestep) is None
    pipe.scheduler.timesteps[0] = timestep
    pipe.scheduler.timesteps[3] = 1
    assert factors(timestep) is not None


def test_the_same_timestep_again_and_again_reads_the_module_tree_once(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = tiny_sd_unet(**SMALL)
    reads = []
    read = scalecrafter.patching.installation.read_architecture
    monkeypatch.setattr(
        "scalecrafter.patching.installation.read_architecture", lambda pipe: reads.append(1) or read(pipe)
    )
    kernels = set()
    with scalecrafter.applied(unet, recipe=DISPERSED, guided=False), torch.no_grad():
        for _ in range(3):
            unet(torch.randn(1, 4, 8, 8), 500, torch.randn(1, 32, 32))
            kernels.add(unet.mid_block.resnets[0].conv1.__dict__["_conv_forward"]._dispersed[1].data_ptr())
    assert len(reads) == 1
    assert len(kernels) == 1


def test_another_unet_in_the_pipeline_is_refused_until_apply_is_called_again() -> None:
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    before, pipe.unet = pipe.unet, tiny_sd_unet(seed=7, **SMALL)
    with pytest.raises(ModelError, match=r"pipe\.unet is another one than when scalecrafter\.apply was called"):
        latents(pipe)
    scalecrafter.apply(pipe, recipe=RECIPE)
    assert not before._forward_pre_hooks
    assert difference(latents(pipe), expected(pipe, pipe.unet.state_dict())) < 1e-5
    scalecrafter.remove(pipe)
    assert "progress_bar" not in vars(pipe)
    latents(pipe)


class Wrapper(nn.Module):
    """As DistributedDataParallel is: the module inside, and what is asked of it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.config, self.dtype, self.device = module.config, module.dtype, module.device

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


@pytest.mark.parametrize("wrap", [Wrapper, lambda unet: torch.compile(unet, backend="eager", disable=True)])
def test_a_wrapper_of_the_unet_is_the_same_unet(wrap: Callable[[nn.Module], Any]) -> None:
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    want = latents(pipe)
    pipe.unet = wrap(pipe.unet)
    assert torch.equal(latents(pipe), want)


def test_a_new_scheduler_counts_from_the_next_call() -> None:
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    latents(pipe, num_inference_steps=1)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    got = latents(pipe)
    scalecrafter.apply(pipe, recipe=RECIPE)
    assert torch.equal(latents(pipe), got)


# ---------------------------------------------------------------------------------- what takes a convolution's forward


class Beside(nn.Module):
    """As LyCORIS' `apply_to` and kohya's networks are: a module whose method becomes the convolution's `forward`."""

    def __init__(self, convolution: nn.Conv2d, asks: bool) -> None:
        super().__init__()
        self.down = nn.Conv2d(convolution.in_channels, convolution.out_channels, 3, padding=1)
        self.original, self.asks = [convolution.forward, convolution], asks
        convolution.forward = self.forward  # type: ignore[method-assign]

    def forward(self, features: Tensor) -> Tensor:
        forward, convolution = self.original
        if self.asks:
            return forward(features) + self.down(features)
        return F.conv2d(features, convolution.weight, convolution.bias, padding=1) + self.down(features)


@pytest.mark.parametrize("asks", [True, False])
def test_an_adapter_in_the_place_of_a_forward_is_refused_by_name(asks: bool) -> None:
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    latents(pipe)
    Beside(pipe.unet.mid_block.resnets[0].conv1, asks)
    with pytest.raises(ModelError, match=r"mid_block\.resnets\.0\.conv1 has an adapter of the kind .*Beside"):
        latents(pipe)
    scalecrafter.remove(pipe)
    latents(pipe)


class OwnConvolution(nn.Conv2d):
    """As HiDiffusion's: a subclass that never asks `_conv_forward`."""

    def forward(self, features: Tensor) -> Tensor:
        return F.conv2d(features, self.weight, self.bias, self.stride, self.padding)


class AskingConvolution(nn.Conv2d):
    """A subclass that does."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features)


def test_a_convolution_that_never_asks_is_refused_by_name() -> None:
    pipe = small_pipeline()
    pipe.unet.mid_block.resnets[0].conv2.__class__ = OwnConvolution
    with (
        scalecrafter.applied(pipe, recipe=RECIPE),
        pytest.raises(ModelError, match=r"OwnConvolution\.forward, which never"),
    ):
        latents(pipe)
    latents(pipe)


def test_a_function_in_the_place_of_a_forward_is_refused_by_name() -> None:
    pipe = small_pipeline()
    convolution = pipe.unet.mid_block.resnets[0].conv2
    convolution.forward = lambda features: F.conv2d(features, convolution.weight, convolution.bias, padding=1)
    with (
        scalecrafter.applied(pipe, recipe=RECIPE),
        pytest.raises(ModelError, match=r"mid_block\.resnets\.0\.conv2 has"),
    ):
        latents(pipe)


def test_a_convolution_of_ones_own_that_asks_is_re_dilated() -> None:
    pipe = small_pipeline()
    for module in pipe.unet.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = AskingConvolution
    with scalecrafter.applied(pipe, recipe=RECIPE):
        assert difference(latents(pipe), expected(pipe)) < 1e-5


def test_a_layer_that_no_factor_changes_may_run_as_it_likes() -> None:
    pipe = small_pipeline()
    Beside(pipe.unet.up_blocks[1].resnets[0].conv2, asks=True)
    with scalecrafter.applied(pipe, recipe=RECIPE):
        latents(pipe)


def test_gradient_checkpointing_is_refused_where_factors_act() -> None:
    unet = tiny_sd_unet(**SMALL).train()
    unet.enable_gradient_checkpointing()
    call = (torch.randn(2, 4, 8, 8, requires_grad=True), 900, torch.randn(2, 32, 32))
    with scalecrafter.applied(unet, recipe=RECIPE, guided=False):
        with pytest.raises(ModelError, match=r"unet\.disable_gradient_checkpointing\(\)"):
            unet(*call)
        with torch.no_grad():
            unet(*call)
        unet.disable_gradient_checkpointing()
        unet(*call).sample.sum().backward()
    unet.enable_gradient_checkpointing()
    unet(*call).sample.sum().backward()


def tile_seamlessly(pipe: Any) -> None:
    """As it is often done to a pipeline: another padding for every convolution."""
    for module in pipe.unet.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"


@pytest.mark.parametrize("first", ["tiling", "apply"])
def test_circular_padding_is_kept_by_re_dilated_layers_whoever_comes_first(first: str) -> None:
    pipe = small_pipeline()
    steps = [lambda: tile_seamlessly(pipe), lambda: scalecrafter.apply(pipe, recipe=DISPERSED)]
    for step in steps if first == "tiling" else reversed(steps):
        step()
    twin = small_pipeline()
    tile_seamlessly(twin)
    with scalecrafter.applied(twin, recipe=DISPERSED):
        want = latents(twin)
    assert torch.equal(latents(pipe), want)
    plain = small_pipeline()
    with scalecrafter.applied(plain, recipe=DISPERSED):
        assert difference(latents(plain), want) > 1e-2


@pytest.mark.parametrize("first", ["theirs", "apply"])
def test_another_conv_forward_is_refused_by_name_whoever_comes_first(first: str) -> None:
    """As for tiling along one axis alone: a function of one's own in the place of `_conv_forward`."""
    pipe = small_pipeline()
    convolution = pipe.unet.mid_block.resnets[0].conv1

    def along_one_axis(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(F.pad(F.pad(features, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1)), weight, bias)

    def theirs() -> None:
        convolution._conv_forward = along_one_axis

    steps = [theirs, lambda: scalecrafter.apply(pipe, recipe=RECIPE)]
    for step in steps if first == "theirs" else reversed(steps):
        step()
    with pytest.raises(ModelError, match=r"mid_block\.resnets\.0\.conv1 has a _conv_forward of .*along_one_axis"):
        latents(pipe)
    scalecrafter.remove(pipe)
    assert convolution.__dict__["_conv_forward"] is along_one_axis
    latents(pipe)
