"""How people run a pipeline (offloaded, in half precision, compiled, cached), with `apply` before it and after it.

On a machine without a GPU the offloading hooks of accelerate and diffusers are driven with the CPU as execution device;
weights still leave their modules (to "meta", or to disk) between evaluations.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import remove_hook_from_submodules
from optimum.quanto import freeze, qint8, quantize
from packaging.version import Version
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

import scalecrafter
from scalecrafter import Recipe
from tests.support.small_pipeline import RECIPE, SMALL, difference, expected, latents, small_pipeline
from tests.support.tiny_models import tiny_sd_unet


class Runtime(NamedTuple):
    """A way to run a pipeline."""

    on: Callable[[Any], object]
    off: Callable[[Any], object] | None
    """None where it cannot be taken off."""
    tolerance: float = 1e-5


def sequential(pipe: Any) -> None:
    """What `enable_sequential_cpu_offload` does, which insists on numbering the device."""
    for model in (pipe.unet, pipe.vae, pipe.text_encoder):
        cpu_offload(model, torch.device("cpu"), offload_buffers=len(model._parameters) > 0)
    assert pipe.unet.conv_in.weight.device.type == "meta"


def group_offload(**options: Any) -> Callable[[Any], None]:
    def enable(pipe: Any) -> None:
        if Version(diffusers.__version__) < Version("0.36") and not torch.cuda.is_available():
            pytest.skip("this diffusers offloads groups only where there is an accelerator")
        pipe.unet.enable_group_offload(torch.device("cpu"), **options)

    return enable


def whole_pipeline_group_offload(pipe: Any) -> None:
    if not hasattr(pipe, "enable_group_offload"):
        pytest.skip("this diffusers offloads groups of single models only")
    pipe.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")


def without_diffusers_hooks(pipe: Any) -> None:
    for module in (module for model in (pipe.unet, pipe.vae, pipe.text_encoder) for module in model.modules()):
        registry = getattr(module, "_diffusers_hook", None)
        for name in list(registry.hooks) if registry is not None else ():
            registry.remove_hook(name, recurse=False)


def quantised_text_encoder(pipe: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe.text_encoder = torch.ao.quantization.quantize_dynamic(pipe.text_encoder, {nn.Linear}, dtype=torch.qint8)


def quanto(pipe: Any) -> None:
    for model in (pipe.text_encoder, pipe.unet):
        quantize(model, weights=qint8)
        freeze(model)


RUNTIMES = {
    "model-offload": Runtime(lambda p: p.enable_model_cpu_offload(device="cpu"), lambda p: p.remove_all_hooks()),
    "sequential-offload": Runtime(sequential, lambda p: p.remove_all_hooks()),
    "group-offload-by-leaf": Runtime(group_offload(offload_type="leaf_level"), without_diffusers_hooks),
    "group-offload-by-block": Runtime(
        group_offload(offload_type="block_level", num_blocks_per_group=1), without_diffusers_hooks
    ),
    "group-offload-of-the-pipeline": Runtime(whole_pipeline_group_offload, without_diffusers_hooks),
    "attention-slicing": Runtime(lambda p: p.enable_attention_slicing(1), lambda p: p.disable_attention_slicing()),
    "channels-last": Runtime(
        lambda p: p.unet.to(memory_format=torch.channels_last),
        lambda p: p.unet.to(memory_format=torch.contiguous_format),
    ),
    "quantised-text-encoder": Runtime(quantised_text_encoder, None),
    "quantised-unet": Runtime(quanto, None, tolerance=0.15),
    "bfloat16": Runtime(lambda p: p.to(torch.bfloat16), None, tolerance=0.1),
    "float16": Runtime(lambda p: p.to(torch.float16), None, tolerance=0.02),
}


@functools.cache
def untouched() -> Tensor:
    """What a pipeline makes with neither a runtime nor ScaleCrafter."""
    return latents(small_pipeline())


@functools.cache
def plain_in(name: str) -> Tensor:
    """What a pipeline makes in a runtime without ScaleCrafter."""
    pipe = small_pipeline()
    RUNTIMES[name].on(pipe)
    return latents(pipe)


LEAVING = [(name, "remove") for name in RUNTIMES] + [(name, "runtime") for name in RUNTIMES if RUNTIMES[name].off]


@pytest.mark.sampled
@pytest.mark.parametrize("first", ["runtime", "apply"])
@pytest.mark.parametrize(("name", "leaves"), LEAVING)
def test_a_runtime_before_and_after_apply(name: str, first: str, leaves: str) -> None:
    """The result is the plain method's, whoever comes first; and nothing is left, whoever leaves first."""
    runtime, pipe = RUNTIMES[name], small_pipeline()
    plain = plain_in(name)
    if first == "apply":
        scalecrafter.apply(pipe, recipe=RECIPE)
    runtime.on(pipe)
    if first == "runtime":
        scalecrafter.apply(pipe, recipe=RECIPE)
    result = latents(pipe)
    assert difference(result, plain) > max(0.05, runtime.tolerance)
    assert difference(result, expected(pipe)) < runtime.tolerance
    assert torch.equal(latents(pipe), result)

    if leaves == "runtime":
        assert runtime.off is not None
        runtime.off(pipe)
        assert difference(latents(pipe), result) < runtime.tolerance
        scalecrafter.remove(pipe)
        assert torch.equal(latents(pipe), untouched())
    else:
        scalecrafter.remove(pipe)
        assert torch.equal(latents(pipe), plain)


@pytest.mark.parametrize("first", ["disk", "apply"])
def test_group_offload_to_disk(first: str, tmp_path: Path) -> None:
    pipe = small_pipeline()
    plain = latents(pipe)
    if first == "apply":
        scalecrafter.apply(pipe, recipe=RECIPE)
    group_offload(offload_type="leaf_level", offload_to_disk_path=str(tmp_path))(pipe)
    if first == "disk":
        scalecrafter.apply(pipe, recipe=RECIPE)
    assert difference(latents(pipe), expected(pipe)) < 1e-5
    scalecrafter.remove(pipe)
    assert torch.equal(latents(pipe), plain)


@pytest.mark.parametrize("first", ["casting", "apply"])
def test_layerwise_casting_to_eight_bits(first: str) -> None:
    pipe = small_pipeline()
    if first == "apply":
        scalecrafter.apply(pipe, recipe=RECIPE)
    pipe.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    if first == "casting":
        scalecrafter.apply(pipe, recipe=RECIPE)
    rounded = {name: value.float() for name, value in pipe.unet.state_dict().items()}
    result = latents(pipe, latents=None, generator=torch.Generator().manual_seed(0), height=64, width=64)
    assert difference(result, expected(pipe, rounded)) < 1e-5
    assert difference(result, expected(pipe)) > 0.01
    scalecrafter.remove(pipe)
    assert difference(latents(pipe), result) > 0.05


@pytest.mark.parametrize("first", ["offload", "apply"])
def test_sequential_offload_of_a_bare_unet(first: str) -> None:
    unet = tiny_sd_unet(**SMALL)
    plain, wanted = evaluate(unet), evaluate(tiny_sd_unet(**SMALL), RECIPE)
    if first == "apply":
        scalecrafter.apply(unet, recipe=RECIPE)
    cpu_offload(unet, torch.device("cpu"))
    if first == "offload":
        scalecrafter.apply(unet, recipe=RECIPE)
    for ours, theirs in zip(evaluate(unet), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
    scalecrafter.remove(unet)
    for ours, theirs in zip(evaluate(unet), plain, strict=True):
        assert torch.equal(ours, theirs)
    remove_hook_from_submodules(unet)


# ------------------------------------------------------------------------------------------------------- compilation

CONVOLUTIONS_ONLY = SMALL | {
    "block_out_channels": (8,),
    "down_block_types": ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",),
    "mid_block_type": "UNetMidBlock2D",
}
"""One level: compiles in a second."""
PLACES = (990, 700, 500, 300, 100)
"""Timesteps of a bare U-Net: 0.01, 0.3, 0.5, 0.7 and 0.9 of the trajectory."""


def evaluate(unet: Any, recipe: Recipe | None = None, guided: bool = True) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, 16, 16, generator=generator)
    text = torch.randn(2, 7, 32, generator=generator)
    if recipe is not None:
        scalecrafter.apply(unet, recipe=recipe, guided=guided)
    with torch.no_grad():
        outputs = [unet(sample, torch.tensor(t), text).sample for t in PLACES]  # a number would be part of the graph
    if recipe is not None:
        scalecrafter.remove(unet)
    return outputs


class Compiled(NamedTuple):
    """A recipe, and how many distinct sets of factors its evaluations at `PLACES` have."""

    recipe: str
    graphs: int


COMPILED = {
    "steady": Compiled('[redilation]\nuntil = 0.6\nlayers = { "mid_block" = 2, "down_blocks.0" = 1.5 }', 2),
    "progressive": Compiled('[redilation]\nuntil = 1\nprogressive = true\nlayers = { "mid_block" = 4 }', 3),  # 4, 3, 2
    "dispersed": Compiled(  # halved and dispersed; whole; as it was
        '[redilation]\nuntil = 0.6\nlayers = { "mid_block" = 2 }\n[dispersion]\nuntil = 0.4\nlayers = ["mid_block"]', 3
    ),
    "damped": Compiled(  # the structure-aware one, the strong one, as it was
        '[redilation]\nuntil = 0.6\nlayers = { "mid_block" = 2 }\n[noise_damping]\nuntil = 0.6\nlayers = {}', 3
    ),
}


def compiled(unet: Any, backend: Any, how: str) -> Any:
    if how == "in-place":
        unet.compile(backend=backend)
        return unet
    return torch.compile(unet, backend=backend)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_compilation_makes_as_many_graphs_as_there_are_sets_of_factors(name: str) -> None:
    recipe, graphs = Recipe.parse(COMPILED[name].recipe), COMPILED[name].graphs
    torch._dynamo.reset()
    unet, counter = tiny_sd_unet(**CONVOLUTIONS_ONLY), CompileCounter()
    wanted, plain = evaluate(copy.deepcopy(unet), recipe), evaluate(unet)
    unet.compile(backend=counter)
    scalecrafter.apply(unet, recipe=recipe, guided=True)
    for _ in range(2):
        for ours, theirs in zip(evaluate(unet), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        assert counter.frame_count == graphs
    assert difference(wanted[0], plain[0]) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("first", "how"), [("apply", "wrapped"), ("compile", "in-place")])
def test_compilation_in_either_order(first: str, how: str) -> None:
    torch._dynamo.reset()
    recipe = Recipe.parse(COMPILED["dispersed"].recipe)
    unet, counter = tiny_sd_unet(**CONVOLUTIONS_ONLY), CompileCounter()
    wanted, plain = evaluate(copy.deepcopy(unet), recipe), evaluate(unet)
    if first == "apply":
        scalecrafter.apply(unet, recipe=recipe)
    pipe = compiled(unet, counter, how)
    if first == "compile":
        for ours, theirs in zip(evaluate(pipe), plain, strict=True):
            torch.testing.assert_close(ours, theirs)
        scalecrafter.apply(pipe, recipe=recipe)
    for ours, theirs in zip(evaluate(pipe), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    scalecrafter.remove(pipe)
    for ours, theirs in zip(evaluate(pipe), plain, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert counter.frame_count <= COMPILED["dispersed"].graphs + 1  # and the one without ScaleCrafter


@pytest.mark.slow
def test_regional_compilation_compiles_no_block_anew_for_other_factors() -> None:
    torch._dynamo.reset()
    unet, counter = tiny_sd_unet(**SMALL), CompileCounter()
    recipe = Recipe.parse(COMPILED["progressive"].recipe)
    wanted = evaluate(copy.deepcopy(unet), recipe)
    unet.compile_repeated_blocks(backend=counter, fullgraph=True)
    evaluate(unet)
    before = counter.frame_count
    result = evaluate(unet, recipe)
    assert 0 < before == counter.frame_count
    for ours, theirs in zip(result, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------ caches of features


def whole_evaluations(pipe: Any, steps: int) -> tuple[Tensor, list[int]]:
    """The result, and the batch of each evaluation that reached the innermost block."""
    batches: list[int] = []
    convolution = pipe.unet.mid_block.resnets[0].conv1
    handle = convolution.register_forward_pre_hook(lambda _module, args: batches.append(args[0].shape[0]))
    result = latents(pipe, num_inference_steps=steps)
    handle.remove()
    return result, batches


@pytest.mark.parametrize("first", ["cache", "apply"])
def test_deepcache_never_carries_features_across_a_change_of_factors(first: str) -> None:
    extension = pytest.importorskip("DeepCache")
    pipe, steps = small_pipeline(), 8
    plain = latents(pipe, num_inference_steps=steps)
    helper = extension.DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=3, cache_branch_id=0)
    helper.enable()
    cached = latents(pipe, num_inference_steps=steps)
    helper.disable()

    if first == "apply":
        scalecrafter.apply(pipe, recipe=RECIPE)
    helper.enable()
    if first == "cache":
        scalecrafter.apply(pipe, recipe=RECIPE)
    result, batches = whole_evaluations(pipe, steps)
    # Whole evaluations: 0, 3 (the interval), 4 (dispersion ended at 0.4 · 8 = 3.2) and 5 (the other spans, at 4.8),
    # from where the next interval counts.  The strong denoiser, a batch of 1, has its own up to step 4.
    assert batches == [2, 1, 2, 1, 2, 1, 2]
    assert torch.equal(whole_evaluations(pipe, steps)[0], result)
    assert difference(result, cached) > 0.05
    scalecrafter.remove(pipe)
    assert torch.equal(latents(pipe, num_inference_steps=steps), cached)
    helper.disable()
    assert torch.equal(latents(pipe, num_inference_steps=steps), plain)


@pytest.mark.parametrize("first", ["cache", "apply"])
def test_deepcache_with_an_interval_of_one_changes_nothing(first: str) -> None:
    extension = pytest.importorskip("DeepCache")
    pipe = small_pipeline()
    helper = extension.DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=1)
    for step in (helper.enable, lambda: scalecrafter.apply(pipe, recipe=RECIPE))[:: 1 if first == "cache" else -1]:
        step()
    assert difference(latents(pipe), expected(pipe)) < 1e-5


@pytest.mark.parametrize("first", ["cache", "apply"])
def test_caches_of_diffusers_are_refused_where_factors_act(first: str) -> None:
    from diffusers.hooks import PyramidAttentionBroadcastConfig, apply_pyramid_attention_broadcast

    pipe = small_pipeline()
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
    )
    if first == "apply":
        scalecrafter.apply(pipe, recipe=RECIPE)
    apply_pyramid_attention_broadcast(pipe.unet, config)
    if first == "cache":
        scalecrafter.apply(pipe, recipe=RECIPE)
    with pytest.raises(
        scalecrafter.ModelError, match=r"PyramidAttentionBroadcastHook on down_blocks.* take the cache off"
    ):
        latents(pipe)
    scalecrafter.remove(pipe)
    latents(pipe)
    without_diffusers_hooks(pipe)
    scalecrafter.apply(pipe, recipe=RECIPE)
    assert difference(latents(pipe), expected(pipe)) < 1e-5
