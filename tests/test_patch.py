"""`apply`, `remove`, `applied` on real pipelines: what they change, and that they change nothing else."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    StableDiffusionPAGPipeline,
    UniPCMultistepScheduler,
)
from torch import Tensor, nn

import scalecrafter
from scalecrafter import Recipe, RecipeError
from tests.support.tiny_models import tiny_sd_pipeline, tiny_sd_unet, tiny_sdxl_pipeline
from tests.support.unet_state import assert_untouched, attributes

DILATED = Recipe.parse('[redilation]\nuntil = 0.6\nlayers = { "down_blocks.1" = 2, "mid_block" = 2 }')
DAMPED = Recipe.parse(
    '[redilation]\nuntil = 0.6\nprogressive = true\nlayers = { "down_blocks.1" = 3, "mid_block" = 4 }\n'
    '[dispersion]\nuntil = 0.4\nlayers = ["mid_block"]\n'
    '[noise_damping]\nuntil = 0.6\nlayers = { "mid_block" = 2 }\n'
)
SCHEDULERS = [
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
]


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def pipe(request: pytest.FixtureRequest) -> Any:
    make = tiny_sd_pipeline if request.param == "sd" else tiny_sdxl_pipeline
    return make(sample_size=8)


def run(pipe: Any, scale: int = 2, steps: int = 4, **options: Any) -> Tensor:
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor * scale
    options.setdefault("generator", torch.Generator().manual_seed(0))
    options.setdefault("prompt", "a fox")
    return pipe(height=side, width=side, num_inference_steps=steps, output_type="latent", **options).images


def test_native_size_is_bit_identical(pipe: Any) -> None:
    plain = run(pipe, scale=1)
    with scalecrafter.applied(pipe):
        assert torch.equal(run(pipe, scale=1), plain)


def test_larger_sizes_are_changed_by_the_automatic_recipe(pipe: Any) -> None:
    plain = run(pipe)
    with scalecrafter.applied(pipe):
        assert not torch.allclose(run(pipe), plain, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("recipe", [None, DILATED, DAMPED], ids=["automatic", "dilated", "damped"])
def test_remove_restores_output_state_and_attributes(pipe: Any, recipe: Recipe | None) -> None:
    plain, before, keys = run(pipe), attributes(pipe.unet), list(pipe.unet.state_dict())
    assert scalecrafter.apply(pipe, recipe=recipe) is pipe
    assert list(pipe.unet.state_dict()) == keys
    run(pipe)
    scalecrafter.remove(pipe)
    assert_untouched(before, pipe.unet)
    assert torch.equal(run(pipe), plain)


def test_exception_in_the_middle_of_a_run_restores_everything(pipe: Any) -> None:
    plain, before = run(pipe), attributes(pipe.unet)

    def explode(_pipe: Any, step: int, _t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            raise RuntimeError("stop here")
        return kwargs

    with pytest.raises(RuntimeError, match="stop here"), scalecrafter.applied(pipe, recipe=DAMPED):
        run(pipe, callback_on_step_end=explode)
    assert_untouched(before, pipe.unet)
    assert torch.equal(run(pipe), plain)


def test_exception_inside_the_strong_evaluation_leaves_a_working_installation(pipe: Any) -> None:
    with scalecrafter.applied(pipe, recipe=DAMPED):
        expected = run(pipe)
        calls = []

        def explode(_module: nn.Module, _args: Any) -> None:
            calls.append(1)
            if len(calls) == 2:
                raise RuntimeError("in the strong one")

        handle = pipe.unet.mid_block.register_forward_pre_hook(explode)
        with pytest.raises(RuntimeError, match="in the strong one"):
            run(pipe)
        handle.remove()
        assert torch.equal(run(pipe), expected)


def test_second_apply_replaces_the_first(pipe: Any) -> None:
    with scalecrafter.applied(pipe, recipe=DAMPED):
        expected = run(pipe)
    before = attributes(pipe.unet)
    scalecrafter.apply(pipe, recipe=DILATED)
    scalecrafter.apply(pipe, recipe=DAMPED)
    assert torch.equal(run(pipe), expected)
    scalecrafter.remove(pipe)
    scalecrafter.remove(pipe)
    assert_untouched(before, pipe.unet)


def test_failed_apply_leaves_the_former_one_in_force(pipe: Any) -> None:
    with scalecrafter.applied(pipe, recipe=DILATED):
        expected = run(pipe)
        with pytest.raises(RecipeError, match="matches no"):
            scalecrafter.apply(pipe, recipe=Recipe.parse('[redilation]\nuntil = 1\nlayers = { "dwn_blocks.1" = 2 }'))
        assert torch.equal(run(pipe), expected)


@pytest.mark.sampled
@pytest.mark.sampled
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_runs_damped_and_the_span_follows_its_table(scheduler: Any) -> None:
    pipe = tiny_sd_pipeline(sample_size=8)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    plain = run(pipe, steps=5)
    with scalecrafter.applied(pipe, recipe=DAMPED):
        plan = scalecrafter.plan(pipe, 256, 256, 5)
        seen: list[bool] = []
        handle = pipe.unet.mid_block.register_forward_pre_hook(lambda *_: seen.append(True))
        damped = run(pipe, steps=5)
        handle.remove()
    strong = sum(plan.damping_factors(step) is not None for step in range(plan.steps))
    assert strong == sum(step / plan.steps < 0.6 for step in range(plan.steps))
    assert len(seen) == plan.steps + strong
    assert not torch.allclose(damped, plain, rtol=1e-2, atol=1e-2)


def test_without_guidance_there_is_no_strong_evaluation(pipe: Any) -> None:
    calls: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(lambda _m, args: calls.append(args[0].shape[0]))
    with scalecrafter.applied(pipe, recipe=DAMPED):
        run(pipe, guidance_scale=1.0, num_images_per_prompt=2)
    handle.remove()
    assert calls == [2, 2, 2, 2]


def test_noise_damping_costs_three_half_batches_not_four(pipe: Any) -> None:
    calls: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(lambda _m, args: calls.append(args[0].shape[0]))
    with scalecrafter.applied(pipe, recipe=DAMPED):
        run(pipe)
    handle.remove()
    assert calls == [2, 1, 2, 1, 2, 1, 2]  # 0/4, 1/4 and 2/4 are below 0.6


def test_pictures_do_not_depend_on_their_batch(pipe: Any) -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    with scalecrafter.applied(pipe, recipe=DAMPED):
        both = run(pipe, num_images_per_prompt=2, generator=generators)
        alone = run(pipe, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(both[1:], alone, rtol=1e-3, atol=1e-3)


def test_bare_unet_uses_its_timestep_as_the_place() -> None:
    unet = tiny_sd_unet(sample_size=8)
    side = unet.config.sample_size * 2
    sample, text = torch.randn(1, 4, side, side), torch.randn(1, 7, unet.config.cross_attention_dim)
    with torch.no_grad():
        plain = [unet(sample, t, text).sample for t in (900, 300)]
        with scalecrafter.applied(unet, recipe=DILATED):
            early, late = (unet(sample, t, text).sample for t in (900, 300))
    assert not torch.allclose(early, plain[0], rtol=1e-2, atol=1e-2)
    assert torch.equal(late, plain[1])


def test_bare_unet_is_told_whether_its_calls_are_guided_pairs() -> None:
    unet = tiny_sd_unet(sample_size=8)
    side = unet.config.sample_size * 2
    sample, text = torch.randn(2, 4, side, side), torch.randn(2, 7, unet.config.cross_attention_dim)
    with torch.no_grad():
        outputs = {}
        for guided in (True, False, None):
            with scalecrafter.applied(unet, recipe=DAMPED, guided=guided):
                outputs[guided] = unet(sample, 900, text).sample
        with scalecrafter.applied(unet, recipe=DAMPED, guided=True), pytest.raises(ValueError, match="pair"):
            unet(sample[:1], 900, text[:1])
    assert not torch.allclose(outputs[True], outputs[False])
    assert torch.equal(outputs[None], outputs[True])


def test_tuple_outputs_are_damped_too() -> None:
    unet = tiny_sd_unet(sample_size=8)
    side = unet.config.sample_size * 2
    sample, text = torch.randn(2, 4, side, side), torch.randn(2, 7, unet.config.cross_attention_dim)
    with torch.no_grad(), scalecrafter.applied(unet, recipe=DAMPED):
        (as_tuple,) = unet(sample, 900, text, return_dict=False)
        assert torch.equal(as_tuple, unet(sample, 900, text).sample)


def test_three_branch_pipelines_are_refused_noise_damping_and_keep_redilation() -> None:
    pipe = tiny_sd_pipeline(sample_size=8)
    pag = StableDiffusionPAGPipeline(**pipe.components, pag_applied_layers=["mid"], requires_safety_checker=False)
    with pytest.raises(RecipeError, match="three branches"):
        scalecrafter.apply(pag, recipe=DAMPED)
    scalecrafter.apply(pag, recipe=DILATED)
    scalecrafter.remove(pag)


def test_swapping_the_scheduler_after_apply_is_noticed() -> None:
    pipe = tiny_sd_pipeline(sample_size=8)
    with scalecrafter.applied(pipe, recipe=DILATED):
        pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
        after = run(pipe)
    with scalecrafter.applied(pipe, recipe=DILATED):
        assert torch.equal(run(pipe), after)


def test_freeu_is_set_and_put_back() -> None:
    pipe = tiny_sd_pipeline(sample_size=8)
    before = attributes(pipe.unet)
    plain = run(pipe, scale=1)
    recipe = Recipe.parse("[freeu]\nb1 = 1.5\nb2 = 1.6\ns1 = 0.9\ns2 = 0.2")
    with scalecrafter.applied(pipe, recipe=recipe):
        changed = run(pipe, scale=1)
    assert not torch.allclose(changed, plain, rtol=1e-3, atol=1e-3)
    assert_untouched(before, pipe.unet)
    with pytest.raises(ValueError, match="published factors"):
        scalecrafter.apply(pipe, freeu=True)


def test_a_copy_of_a_patched_unet_is_independent() -> None:
    pipe = tiny_sd_pipeline(sample_size=8)
    scalecrafter.apply(pipe, recipe=DILATED)
    twin = copy.deepcopy(pipe.unet)
    expected = run(pipe)
    scalecrafter.remove(pipe)
    plain = run(pipe)
    original, pipe.unet = pipe.unet, twin
    assert torch.equal(run(pipe), expected)
    scalecrafter.remove(twin)
    assert torch.equal(run(pipe), plain)
    assert_untouched(attributes(original), original)
    assert not twin._forward_pre_hooks
    assert "_conv_forward" not in twin.mid_block.resnets[0].conv1.__dict__


def test_lora_on_a_convolution_is_dilated_with_it_whenever_it_is_loaded() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, init_lora_weights=False, target_modules=["conv1", "conv2"])
    results = []
    for order in ("before", "after", "fused"):
        pipe = tiny_sd_pipeline(sample_size=8)
        if order == "after":
            scalecrafter.apply(pipe, recipe=DAMPED)
        torch.manual_seed(7)
        pipe.unet.add_adapter(config)
        if order == "fused":
            pipe.unet.fuse_lora()
        if order != "after":
            scalecrafter.apply(pipe, recipe=DAMPED)
        results.append(run(pipe))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(results[0], results[2], rtol=1e-3, atol=1e-3)


def test_pipeline_without_unet_is_refused() -> None:
    class Transformed:
        transformer = nn.Linear(2, 2)

    with pytest.raises(ValueError, match=r"does not know the transformer of Transformed \(Linear\)"):
        scalecrafter.apply(Transformed())


@pytest.mark.slow
def test_no_second_unet_and_no_copied_weight_is_ever_in_memory() -> None:
    pipe = tiny_sd_pipeline(sample_size=8)
    gc.collect()  # what earlier tests have left must not be collected in the middle
    weights = sum(p.numel() for p in pipe.unet.parameters())
    counts: list[tuple[int, int]] = []

    def count(_module: nn.Module, _args: Any) -> None:
        unets = [o for o in gc.get_objects() if isinstance(o, nn.Module) and type(o) is type(pipe.unet)]
        kernels = [patch for m in pipe.unet.modules() if (patch := m.__dict__.get("_conv_forward"))]
        dispersed = sum(kept[1].numel() for patch in kernels if (kept := patch._dispersed))
        counts.append((len(unets), dispersed))

    before = len([o for o in gc.get_objects() if isinstance(o, nn.Module) and type(o) is type(pipe.unet)])
    with scalecrafter.applied(pipe, recipe=DAMPED):
        pipe.unet.up_blocks[3].register_forward_pre_hook(count)
        run(pipe)
    assert {number for number, _ in counts} == {before}
    assert 0 < max(kept for _, kept in counts) < weights  # the dispersed kernels, while dispersion lasts
    assert counts[-1][1] == 0
