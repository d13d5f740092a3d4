"""What is applied to a pipeline stays the caller's: nested `applied`, and `generate`, put exactly that back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import scalecrafter
from scalecrafter import Recipe
from scalecrafter.generation.generate import generate
from scalecrafter.patching.apply import set_aside
from scalecrafter.request.request import Request
from scalecrafter.vae import has_vae_memory
from tests.support.small_pipeline import RECIPE, latents, small_pipeline
from tests.support.tiny_models import tiny_sd_pipeline

INNER = Recipe.parse('[redilation]\nuntil = 1.0\nlayers = { "mid_block" = 3 }\n')


class Boom(Exception):
    """A fault of somebody else's."""


def test_the_outer_applied_acts_again_after_an_inner_one() -> None:
    pipe = small_pipeline()
    plain = latents(pipe)
    with scalecrafter.applied(pipe, recipe=RECIPE):
        outer = latents(pipe)
        with scalecrafter.applied(pipe, recipe=INNER):
            inner = latents(pipe)
        assert torch.equal(latents(pipe), outer)
        with pytest.raises(Boom), scalecrafter.applied(pipe, recipe=INNER, vae_memory="64MiB"):
            raise Boom
        assert torch.equal(latents(pipe), outer)
        with (
            pytest.raises(ValueError, match="matches no"),
            scalecrafter.applied(pipe, recipe=Recipe.parse('[redilation]\nuntil = 1\nlayers = { "nowhere" = 2 }')),
        ):
            pass
        assert torch.equal(latents(pipe), outer)
    assert torch.equal(latents(pipe), plain)
    assert not torch.equal(inner, outer)


def test_the_outer_memory_budget_acts_again_after_an_inner_one() -> None:
    pipe = small_pipeline()
    with scalecrafter.applied(pipe, recipe=RECIPE, vae_memory="2MiB"):
        before = pipe.vae.__dict__["_scalecrafter_memory"]
        with scalecrafter.applied(pipe, recipe=INNER, vae_memory="4MiB"):
            assert pipe.vae.__dict__["_scalecrafter_memory"] is not before
        assert pipe.vae.__dict__["_scalecrafter_memory"] is before
    assert not has_vae_memory(pipe.vae)


def test_whatever_happens_while_it_is_set_aside_is_undone() -> None:
    pipe = small_pipeline()
    scalecrafter.apply(pipe, recipe=RECIPE)
    before, unet = latents(pipe), pipe.unet

    def meddle() -> None:
        scalecrafter.apply(pipe, recipe=INNER)
        pipe.unet = small_pipeline().unet
        scalecrafter.apply(pipe, recipe=INNER)
        raise Boom

    with pytest.raises(Boom), set_aside(pipe):
        meddle()
    meanwhile, pipe.unet = pipe.unet, unet
    assert not meanwhile._forward_pre_hooks
    assert torch.equal(latents(pipe), before)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "method", ["direct", "upscale", "multidiffusion", "attention-scaling", "cascade", "scalecrafter"]
)
def test_generate_draws_as_on_a_fresh_pipeline_and_leaves_what_was_applied(method: str) -> None:
    fresh, pipe = (quiet(tiny_sd_pipeline()) for _ in range(2))
    scalecrafter.apply(pipe, recipe=INNER)
    before = run(pipe)
    request = Request(prompt="a fox", width=256, height=192, steps=2, seed=1, method=method, guidance=2.0)
    ours, theirs = (np.asarray(generate(one, request).image) for one in (pipe, fresh))
    assert np.array_equal(ours, theirs)
    assert torch.equal(run(pipe), before)


def test_generate_puts_back_what_was_applied_when_it_is_stopped() -> None:
    pipe = quiet(tiny_sd_pipeline())
    scalecrafter.apply(pipe, recipe=INNER)
    before = run(pipe)

    def stop(_step: int, _steps: int) -> None:
        raise Boom

    with pytest.raises(Boom):
        generate(pipe, Request(prompt="a fox", width=256, height=192, steps=2, seed=1), stop)
    assert torch.equal(run(pipe), before)


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    call: dict[str, Any] = {"height": 192, "width": 256, "num_inference_steps": 2, "output_type": "latent"}
    return pipe("a fox", generator=generator, **call).images
