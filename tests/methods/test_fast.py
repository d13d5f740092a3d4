"""The levers of the method fast: each does something, and what the picture is made of is what is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scalecrafter._util.sizes import ImageSize
from scalecrafter.generation.generate import generate
from scalecrafter.methods.steps.coarse import native_places
from scalecrafter.request.request import Request, RequestError
from scalecrafter.unet.architecture import read_architecture
from scalecrafter.vae.pooled_attention import pooled_attention
from tests.support.small_pipeline import small_pipeline
from tests.support.tiny_models import tiny_sd_pipeline, tiny_vae
from tests.support.unet_state import assert_untouched, attributes


def ask(**settings: Any) -> Request:
    asked = {"prompt": "a fox", "steps": 4, "seed": 1, "width": 256, "height": 256, "method": "fast"}
    return Request.from_mapping(asked | {"fast": settings})


@pytest.mark.slow
def test_every_lever_changes_the_picture_and_the_scheduler_is_given_back() -> None:
    pipe = small_pipeline()
    scheduler, before = pipe.scheduler, attributes(pipe.unet)
    levers: tuple[dict[str, Any], ...] = (
        {}, {"most_steps": 2}, {"scheduler": "dpm++"}, {"guided_until": 0.5}, {"attention": "full"},
        {"attention": "windows"}, {"stage_guidance": 3.0}, {"vae_attention": "pooled"}, {"restart": 0.6},
    )  # fmt: skip
    made = {str(lever): generate(pipe, ask(**lever)).image.tobytes() for lever in levers}
    assert len(set(made.values())) == len(levers)
    assert pipe.scheduler is scheduler
    assert_untouched(before, pipe.unet)


def test_features_at_the_native_grid_take_the_place_of_re_dilation() -> None:
    pipe = tiny_sd_pipeline(sample_size=8, layers_per_block=1)
    before = attributes(pipe.unet)
    request = ask().changed(width=128, height=128)
    coarse = ask(features="coarse").changed(width=128, height=128)
    assert generate(pipe, coarse).image.tobytes() != generate(pipe, request).image.tobytes()
    assert generate(pipe, coarse).image.tobytes() == generate(pipe, coarse).image.tobytes()
    assert_untouched(before, pipe.unet)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (64, 64, []),
        (128, 64, [("sampler", 0)]),
        (128, 128, [("sampler", 0)]),
        (256, 128, [("sampler", 0), ("pair", 1)]),
    ],
)
def test_they_are_brought_to_the_native_grid(width: int, height: int, expected: list[tuple[str, int]]) -> None:
    architecture = read_architecture(tiny_sd_pipeline(sample_size=8, layers_per_block=1))
    places = native_places(architecture, ImageSize(width, height))
    assert [(place.at, place.level) for place in places] == expected
    assert all((place.begin, place.until) == (0.0, 1.0) for place in places)


def test_a_scheduler_that_the_request_names_goes_before_the_lever() -> None:
    pipe = small_pipeline()
    named, lever = ask().changed(scheduler="euler"), ask(scheduler="euler")
    assert generate(pipe, named).image.tobytes() == generate(pipe, lever).image.tobytes()


def test_an_unknown_scheduler_is_refused() -> None:
    with pytest.raises(RequestError, match="no scheduler"):
        ask(scheduler="dmp++")


def test_pooled_keys_leave_the_vae_as_it_was() -> None:
    vae = tiny_vae()
    latents = torch.randn(1, 4, 12, 10, generator=torch.Generator().manual_seed(0))
    plain = vae.decode(latents).sample
    with pooled_attention(vae, 2):
        pooled = vae.decode(latents).sample
    assert not torch.equal(pooled, plain)
    assert torch.equal(vae.decode(latents).sample, plain)
