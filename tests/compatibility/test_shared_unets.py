"""One U-Net in several pipelines, copies and threads: each call has the scheduler and guidance of whoever makes it."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
)
from PIL import Image
from torch import Tensor

import scalecrafter
from scalecrafter import ModelError, Recipe
from scalecrafter.patching.attention import scaled_attention
from scalecrafter.vae import vae_memory_applied
from tests.support.small_pipeline import RECIPE, latents, small_pipeline
from tests.support.tiny_models import tiny_sdxl_pipeline

PICTURE = Image.linear_gradient("L").convert("RGB").resize((64, 64))
SDXL = Recipe.parse(
    '[redilation]\nuntil = 0.8\nprogressive = true\nlayers = { "mid_block" = 4 }\n'
    "[noise_damping]\nuntil = 0.8\nlayers = {}\n"
)


def draft(pipe: Any) -> None:
    """A run of another length, without guidance, by the pipeline that `apply` was called with."""
    latents(pipe, num_inference_steps=2, guidance_scale=1.0)


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_a_pipeline_of_another_task_has_its_own_scheduler() -> None:
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    other = quiet(AutoPipelineForImage2Image.from_pipe(pipe))
    other.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)

    def run() -> Tensor:
        made = other(
            "a fox", image=PICTURE, strength=0.8, num_inference_steps=10, generator=seeded(), output_type="latent"
        )
        return made.images

    draft(pipe)
    got = run()
    scalecrafter.apply(other, recipe=RECIPE)
    assert torch.equal(got, run())


def test_a_copied_pipeline_owns_itself() -> None:
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    twin = copy.deepcopy(pipe)
    want = latents(pipe)
    draft(pipe)
    assert torch.equal(latents(twin), want)
    twin.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    euler = latents(twin)
    assert torch.equal(latents(pipe), want)
    scalecrafter.remove(pipe)
    del pipe
    assert torch.equal(latents(twin), euler)
    scalecrafter.remove(twin)
    assert not twin.unet._forward_pre_hooks
    assert "progress_bar" not in vars(twin)


def test_a_copied_pipeline_asks_its_own_scheduler_also_in_a_loop_of_ones_own() -> None:
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    twin = copy.deepcopy(pipe)
    pipe.scheduler.set_timesteps(50)
    twin.scheduler.set_timesteps(2)
    second = int(twin.scheduler.timesteps[1])
    with torch.no_grad():
        twin.unet(torch.randn(2, 4, 8, 8), second, torch.randn(2, 32, 32))
    now = twin.unet.mid_block.resnets[0].conv1.__dict__["_conv_forward"]._state.now
    assert now.transform is None  # at 1/2 of two steps, which is after 0.4


def test_a_pipeline_is_freed_at_once_when_nobody_holds_it() -> None:
    """So that its models leave a GPU without a garbage collection."""
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    latents(pipe)
    gone = weakref.ref(pipe)
    gc.collect()
    gc.disable()
    try:
        del pipe
        assert gone() is None
    finally:
        gc.enable()


def test_a_shallow_copy_goes_on_when_the_original_is_gone() -> None:
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    want = latents(pipe)
    twin = copy.copy(pipe)
    del pipe
    assert torch.equal(latents(twin), want)
    twin.unet = small_pipeline().unet
    with pytest.raises(ModelError, match=r"pipe\.unet is another one"):
        latents(twin)


def test_base_and_refiner_on_one_unet_share_a_trajectory_with_heun() -> None:
    results = []
    for apart in (False, True):
        base = quiet(tiny_sdxl_pipeline())
        base.scheduler = HeunDiscreteScheduler.from_config(base.scheduler.config)
        refiner = quiet(StableDiffusionXLImg2ImgPipeline(**base.components))
        if apart:  # each applied to by itself
            refiner.unet, refiner.scheduler = copy.deepcopy(base.unet), copy.deepcopy(base.scheduler)
            scalecrafter.apply(refiner, recipe=SDXL)
        scalecrafter.apply(base, recipe=SDXL)
        call = {"prompt": "a fox", "num_inference_steps": 6, "output_type": "latent"}
        half = base(**call, denoising_end=0.5, height=64, width=64, generator=seeded()).images
        results.append(refiner(**call, image=half, denoising_start=0.5, generator=seeded()).images)
    assert torch.equal(*results)


def in_threads(work: Callable[[int], Tensor], count: int) -> list[Tensor]:
    barrier = Barrier(count)

    def together(number: int) -> Tensor:
        barrier.wait(60)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(together, range(count)))


def in_another_thread(first: Any, scheduler: type[Any]) -> Any:
    """A pipeline of the same models.  A tokenizer has settings that each call changes, so each thread has its own."""
    own = {"scheduler": scheduler.from_config(first.scheduler.config), "tokenizer": copy.deepcopy(first.tokenizer)}
    return quiet(StableDiffusionPipeline(**first.components | own, requires_safety_checker=False))


def test_threads_with_shared_models_make_what_each_makes_alone() -> None:
    first = small_pipeline()
    pipes = [first, *(in_another_thread(first, kind) for kind in (EulerDiscreteScheduler, HeunDiscreteScheduler))]
    scalecrafter.apply(first, recipe=RECIPE)

    def run(number: int) -> Tensor:
        return latents(pipes[number], num_inference_steps=4 + number, guidance_scale=1.0 + 2 * number)

    alone = [run(number) for number in range(3)]
    for _ in range(2):
        for ours, theirs in zip(in_threads(run, 3), alone, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_threads_with_scaled_attention_and_other_sizes_are_as_alone() -> None:
    first = small_pipeline()
    pipes = [first, in_another_thread(first, EulerDiscreteScheduler)]

    def run(number: int) -> Tensor:
        noise = torch.randn(1, 4, 16, 16 + 16 * number, generator=seeded())
        return latents(pipes[number], latents=noise, height=128, width=128 + 128 * number)

    with scaled_attention(first):
        alone = [run(0), run(1)]
        for ours, theirs in zip(in_threads(run, 2), alone, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_threads_that_decode_in_tiles_are_as_alone() -> None:
    vae = small_pipeline().vae
    given = [torch.randn(1, 4, 16 + 8 * number, 24, generator=seeded()) for number in range(3)]

    def run(number: int) -> Tensor:
        with torch.no_grad():
            return vae.decode(given[number]).sample

    with vae_memory_applied(vae, "8MiB", tile=(64, 64)):
        alone = [run(number) for number in range(3)]
        for ours, theirs in zip(in_threads(run, 3), alone, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_a_copied_vae_runs_its_own_tiles() -> None:
    vae = small_pipeline().vae
    latent = torch.randn(1, 4, 16, 24, generator=seeded())
    with vae_memory_applied(vae, "4MiB", tile=(64, 64)), torch.no_grad():
        want = vae.decode(latent).sample
        twin = copy.deepcopy(vae)
        for parameter in vae.parameters():
            parameter.zero_()
        torch.testing.assert_close(twin.decode(latent).sample, want)


@pytest.mark.parametrize("what", ["unet", "vae", "pipeline"])
def test_pickling_what_apply_is_on_says_what_to_do(what: str) -> None:
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    with pytest.raises(ModelError, match=r"call scalecrafter.remove\(pipe\) first"):
        pickle.dumps(pipe if what == "pipeline" else getattr(pipe, what))
    scalecrafter.remove(pipe)
    pickle.dumps(pipe.unet)
