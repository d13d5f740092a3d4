"""`ProgressCallback`: told of every step in every pipeline, and a cancelled run leaves everything usable."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from diffusers import (
    LatentConsistencyModelPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPAGPipeline,
    StableDiffusionPipeline,
)
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback, SDCFGCutoffCallback
from torch import Tensor

import scalecrafter
from scalecrafter import Cancelled, ProgressCallback, Recipe
from scalecrafter.generation.generate import generate
from scalecrafter.request.request import Request
from tests.support.small_pipeline import RECIPE, SMALL, small_pipeline
from tests.support.tiny_models import tiny_sd_pipeline, tiny_sd_unet, tiny_sdxl_pipeline

DILATED = Recipe.parse('[redilation]\nuntil = 0.6\nlayers = { "mid_block" = 2 }')
STEPS = 4


def latent_consistency() -> Any:
    components = tiny_sd_pipeline().components | {"unet": tiny_sd_unet(**SMALL, time_cond_proj_dim=8)}
    components["scheduler"] = scheduler("LCMScheduler")
    pipe = LatentConsistencyModelPipeline(**components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def scheduler(name: str) -> Any:
    import diffusers

    return getattr(diffusers, name).from_config(tiny_sd_pipeline().scheduler.config)


def with_heun() -> Any:
    pipe = small_pipeline()
    pipe.scheduler = scheduler("HeunDiscreteScheduler")
    return pipe


IMAGE = {"image": torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))}
MASK = {"mask_image": torch.ones(1, 1, 64, 64)}
PIPELINES: dict[str, tuple[Any, dict[str, Any], int]] = {
    "text-to-image": (small_pipeline, {}, STEPS),
    "heun": (with_heun, {}, 2 * STEPS - 1),
    "image-to-image": (lambda: small_pipeline(StableDiffusionImg2ImgPipeline), IMAGE | {"strength": 0.5}, 2),
    "inpainting": (lambda: small_pipeline(StableDiffusionInpaintPipeline), IMAGE | MASK | {"strength": 1.0}, STEPS),
    "perturbed-attention": (lambda: small_pipeline(StableDiffusionPAGPipeline), {}, STEPS),
    "latent-consistency": (latent_consistency, {}, STEPS),
    "sdxl": (tiny_sdxl_pipeline, {}, STEPS),
}
"""How to make each, what it is called with, and how many steps that has."""


def run(pipe: Any, options: dict[str, Any], **more: Any) -> Tensor:
    size = {} if "image" in options else {"height": 64, "width": 64}
    generator = torch.Generator().manual_seed(0)
    options = options | size | {"num_inference_steps": STEPS, "output_type": "latent", "generator": generator} | more
    return pipe("a fox", **options).images


@pytest.mark.sampled
@pytest.mark.parametrize("name", PIPELINES)
def test_every_step_is_told_and_a_cancelled_run_leaves_all_usable(name: str) -> None:
    make, options, steps = PIPELINES[name]
    pipe, told, shown = make(), [], []
    plain = run(pipe, options)
    scalecrafter.apply(pipe, recipe=DILATED)
    expected = run(pipe, options)
    assert not torch.allclose(expected, plain, rtol=1e-3, atol=1e-3)

    callback = ProgressCallback(lambda done, total: told.append((done, total)), shown.append)
    assert torch.equal(run(pipe, options, callback_on_step_end=callback), expected)
    assert told == [(step, steps) for step in range(1, steps + 1)]
    assert torch.equal(shown[-1], expected)

    def cancel_at_once(*_: int) -> None:
        cancelling.cancel()

    cancelling = ProgressCallback(cancel_at_once)
    with pytest.raises(Cancelled, match=f"after step 1 of {steps}"):
        run(pipe, options, callback_on_step_end=cancelling)
    assert torch.equal(run(pipe, options), expected)
    scalecrafter.remove(pipe)
    assert torch.equal(run(pipe, options), plain)


def test_a_run_is_cancelled_from_another_thread_and_the_callback_serves_again() -> None:
    pipe, at_work, told = small_pipeline(), threading.Event(), []

    def report(done: int, _total: int) -> None:
        told.append(done)
        at_work.set()
        if len(told) == 2:
            canceller.join(10)

    callback = ProgressCallback(report)
    canceller = threading.Thread(target=lambda: at_work.wait(10) and callback.cancel())
    canceller.start()
    with scalecrafter.applied(pipe, recipe=RECIPE):
        with pytest.raises(Cancelled):
            run(pipe, {}, callback_on_step_end=callback)
        assert len(told) <= 2
        run(pipe, {}, callback_on_step_end=callback)
    assert told[-1] == STEPS


def test_a_cancelled_run_under_model_offload_leaves_the_pipeline_usable() -> None:
    pipe = small_pipeline()
    pipe.enable_model_cpu_offload(device="cpu")
    with scalecrafter.applied(pipe, recipe=RECIPE):
        expected = run(pipe, {})
        callback = ProgressCallback()
        callback.cancel()
        with pytest.raises(Cancelled, match=f"after step 1 of {STEPS}"):
            run(pipe, {}, callback_on_step_end=callback)
        assert torch.equal(run(pipe, {}), expected)


def test_what_the_report_raises_ends_the_run() -> None:
    def refuse(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    pipe = small_pipeline()
    with pytest.raises(KeyboardInterrupt):
        run(pipe, {}, callback_on_step_end=ProgressCallback(refuse))


def test_it_is_a_callback_of_diffusers_and_stands_beside_others() -> None:
    pipe, told = small_pipeline(), []
    progress = ProgressCallback(lambda done, _total: told.append(done))
    assert isinstance(progress, PipelineCallback)
    cutoff = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=1)
    assert isinstance(pipe, StableDiffusionPipeline)
    run(pipe, {}, callback_on_step_end=MultiPipelineCallbacks([progress, cutoff]))
    assert told == [1, 2, 3, 4]


def test_generate_tells_its_progress_in_the_same_way_and_can_be_cancelled() -> None:
    pipe, told = small_pipeline(), []
    request = Request(prompt="a fox", width=64, height=64, steps=STEPS, seed=1, recipe=RECIPE.to_toml())
    before = generate(pipe, request, lambda done, total: told.append((done, total))).image
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def stop(done: int, total: int) -> None:
        raise Cancelled(f"cancelled after step {done} of {total}")

    with pytest.raises(Cancelled):
        generate(pipe, request, stop)
    assert generate(pipe, request).image.tobytes() == before.tobytes()
