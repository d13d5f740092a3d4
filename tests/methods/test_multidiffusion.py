"""MultiDiffusion inside the pipeline's own call, against a slow reference of the paper's loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scalecrafter.generation.generate import generate
from scalecrafter.patching.windows import fused_windows, windows
from scalecrafter.request.request import Request
from tests.support.reference_sampling import PROMPT, ddim_step, decoded, guided, largest_difference, plain
from tests.support.tiny_models import tiny_sd_pipeline, tiny_sdxl_pipeline

STEPS, GUIDANCE, WINDOW, STRIDE = 3, 7.5, 8, 4


def multidiffusion(pipe: Any, latents: Tensor) -> Tensor:
    """Algorithm 1 of the paper: step every window on its own, then average the next latents."""
    height, width = latents.shape[-2:]
    predict = plain(pipe, STEPS)
    for index in range(STEPS):
        total, count = torch.zeros_like(latents), torch.zeros_like(latents)
        for top in range(0, height - WINDOW + 1, STRIDE):
            for left in range(0, width - WINDOW + 1, STRIDE):
                place = (..., slice(top, top + WINDOW), slice(left, left + WINDOW))
                prediction = guided(pipe, predict, latents[place], index, GUIDANCE)
                total[place] += ddim_step(pipe, prediction, latents[place], index, STEPS)
                count[place] += 1
        latents = total / count
    return latents


@pytest.mark.sampled
@pytest.mark.parametrize("size", [(16, 16), (16, 24)])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_it_is_the_papers_loop(size: tuple[int, int], prediction_type: str) -> None:
    pipe = tiny_sd_pipeline(sample_size=WINDOW, layers_per_block=1)
    pipe.scheduler.register_to_config(prediction_type=prediction_type)
    noise = torch.randn((1, 4, *size), generator=torch.Generator().manual_seed(4))
    expected = multidiffusion(pipe, noise)
    with fused_windows(pipe, (WINDOW, WINDOW), (STRIDE, STRIDE)):
        ours = pipe(
            PROMPT, height=size[0] * 8, width=size[1] * 8, latents=noise, num_inference_steps=STEPS,
            guidance_scale=GUIDANCE, output_type="latent",
        ).images  # fmt: skip
    assert (ours - expected).abs().max() < 1e-4 * expected.abs().max()
    request = Request(
        prompt=PROMPT,
        method="multidiffusion",
        steps=STEPS,
        guidance=GUIDANCE,
        seed=4,
        height=size[0] * 8,
        width=size[1] * 8,
    )
    assert largest_difference(generate(pipe, request).image, decoded(pipe, expected)) <= 1


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [((32, 32), (16, 16), (8, 8)), ((40, 9), (16, 16), (5, 8)), ((17, 33), (16, 4), (9, 4))],
)
def test_windows_cover_everything_and_stay_inside(
    size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]
) -> None:
    covered = torch.zeros(size)
    for rows, columns in windows(size, window, stride):
        assert covered[rows, columns].shape == (min(size[0], window[0]), min(size[1], window[1]))
        covered[rows, columns] += 1
    assert covered.min() >= 1


@torch.no_grad()
def test_the_unet_gives_back_what_it_is_asked_for_and_is_restored_after_an_exception() -> None:
    unet = tiny_sd_pipeline().unet
    call = {"timestep": 10, "encoder_hidden_states": torch.randn(2, 7, 32)}
    sample = torch.randn(2, 4, 32, 32)
    before = unet(sample, **call).sample

    def stop_inside() -> None:
        with fused_windows(unet, (16, 16), (8, 8)):
            named = unet(sample, **call).sample
            assert torch.equal(named, unet(sample, **call, return_dict=False)[0])
            assert not torch.equal(named, before)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop_inside()
    assert "forward" not in unet.__dict__
    assert torch.equal(unet(sample, **call).sample, before)


def test_sdxl_is_told_the_size_of_a_window() -> None:
    pipe = tiny_sdxl_pipeline()
    seen = []

    def record(_unet: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        seen.append(kwargs["added_cond_kwargs"]["time_ids"].tolist())

    pipe.unet.register_forward_pre_hook(record, with_kwargs=True)
    generate(pipe, Request(prompt=PROMPT, method="multidiffusion", steps=1, seed=4, height=256, width=192))
    assert seen == [[[128, 128, 0, 0, 128, 128]] * 2]
