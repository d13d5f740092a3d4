"""Operations, counted on the meta device: held against counts by hand, and against what the methods really run."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scalecrafter._util.sizes import ImageSize
from scalecrafter.bench.rows import Row, counted_rows, passes_of, requests
from scalecrafter.cost.architectures import outline, ready
from scalecrafter.cost.flops import FlopCounts
from scalecrafter.generation.generate import generate
from scalecrafter.request.methods import METHODS
from scalecrafter.request.passes import Decoding, Denoising
from scalecrafter.request.request import Request
from scalecrafter.unet.architecture import read_architecture
from tests.support.tiny_bench import Tiny
from tests.support.tiny_models import tiny_sd_pipeline

TERA = 1e12
known_outline = functools.cache(outline)


def rows(architecture: str, side: int, *methods: str, steps: int = 50) -> dict[str, Row]:
    model = known_outline(architecture)
    asked = requests(architecture, [ImageSize(side, side)], methods, steps)
    return {row["method"]: row for row in counted_rows(model, asked)}


@pytest.mark.slow
def test_pictures_of_sdxl_at_4096_cost_what_was_counted_by_hand() -> None:
    """170 half-batches and a decode as published; 100 directly; for ours 135, less what both denoisers share."""
    found = rows("sdxl", 4096, "direct", "published", "scalecrafter", "fast")
    assert found["fast"]["flops"] <= 1.89e15
    assert found["published"]["flops"] == pytest.approx(49.2e15, rel=0.03)
    assert found["direct"]["flops"] == pytest.approx((100 * 287.8 + 299) * TERA, rel=0.01)
    assert found["published"]["flops_over_direct"] == pytest.approx(1.69, rel=0.01)
    assert found["scalecrafter"]["flops_over_direct"] <= 1.30
    assert found["scalecrafter"]["published_over_flops"] >= 1.31


@pytest.mark.slow
def test_pictures_of_sd15_at_2048_keep_their_ratios() -> None:
    found = rows("sd15", 2048, "direct", "published", "scalecrafter", "cascade")
    assert found["scalecrafter"]["flops_over_direct"] <= 1.21
    assert found["scalecrafter"]["published_over_flops"] >= 1.40
    assert found["cascade"]["published_over_flops"] > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "side", "tflop"), [("sdxl", 1024, 6.76), ("sdxl", 2048, 35.9), ("sd15", 2048, 42.2)]
)
def test_half_batches_cost_what_was_counted_by_hand(architecture: str, side: int, tflop: float) -> None:
    assert FlopCounts(known_outline(architecture)).half_batch(ImageSize(side, side)) == pytest.approx(
        tflop * TERA, rel=0.01
    )


def test_the_attention_of_the_vae_counts() -> None:
    """Half of a 4096² decode is one attention of all 262,144 positions over all others, 512 wide."""
    counts = FlopCounts(known_outline("sdxl"))
    decode = counts.of_pass(Decoding(ImageSize(4096, 4096)), 1)
    assert decode == pytest.approx(299 * TERA, rel=0.01)
    assert decode > 4 * 262_144**2 * 512


@contextmanager
def counted_calls(*modules: Any) -> Iterator[list[int]]:
    """Adds up the operations of every call of these modules."""
    total, handles, counters = [0], [], []

    def before(*_: Any) -> None:
        counters.append(FlopCounterMode(display=False))
        counters[-1].__enter__()

    def after(*_: Any) -> None:
        counter = counters.pop()
        counter.__exit__(None, None, None)
        total[0] += counter.get_total_flops() if not counters else 0

    for module in modules:
        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after, always_call=True)]
    yield total
    for handle in handles:
        handle.remove()


ON_A_UNET = [name for name, method in METHODS.items() if "unet" in method.models]
RECIPE = """
[redilation]
until = 0.7
progressive = true
layers = { "down_blocks.2" = 3, "mid_block" = 4, "up_blocks.0" = 2.5 }
[dispersion]
until = 0.4
layers = ["mid_block"]
[noise_damping]
until = 0.5
layers = { "mid_block" = 2 }
"""


@pytest.mark.sampled
@pytest.mark.parametrize(
    "what",
    [*({"method": name} for name in ON_A_UNET), {"method": "fast", "fast": {"features": "coarse"}}, {"recipe": RECIPE}],
    ids=[*ON_A_UNET, "fast with coarse features", "a recipe of all parts"],
)
def test_a_picture_is_counted_as_it_is_made(what: dict[str, Any]) -> None:
    pipe = tiny_sd_pipeline(sample_size=8, layers_per_block=1)
    asked = {"prompt": "a fox", "steps": 3, "seed": 1, "width": 192, "height": 128}
    request = Request.from_mapping(asked | what)
    model = Tiny("meta")
    passes = passes_of(request.method, request, read_architecture(model))
    # torch's counter does not know the CPU's own attention kernel
    with sdpa_kernel(SDPBackend.MATH), counted_calls(pipe.unet, pipe.vae.encoder, pipe.vae.decoder) as made:
        generate(pipe, request, vae_memory=None)
    assert FlopCounts(model).picture(passes, request.steps) == pytest.approx(made[0], rel=0.01)


def test_a_span_and_a_number_of_steps_of_its_own_are_kept() -> None:
    counts, size = FlopCounts(Tiny("meta")), ImageSize(64, 64)
    step = counts.half_batch(size)
    assert counts.of_pass(Denoising(size, False, steps=20, span=(0.25, 0.75)), 50) == 10 * step
    assert counts.of_pass(Denoising(size, False, strength=0.5), 50) == 25 * step


def test_random_weights_keep_values_of_order_one() -> None:
    model = ready("sd15-half", torch.bfloat16, torch.device("cpu"))
    size = ImageSize(64, 64)
    with torch.no_grad():
        noise = model.unet(model.latents(size), torch.tensor(500), **model.conditions(size, 1)).sample
    assert 0.01 < float(noise.float().std()) < 100
