"""What is claimed for GPUs, on one: `pytest -m gpu`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import scalecrafter
from scalecrafter.vae import apply_vae_memory
from tests.support.tiny_models import tiny_sd_pipeline

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

RECIPE = scalecrafter.Recipe.parse("""
[redilation]
until = 0.7
layers = { "down_blocks.2" = 3, "mid_block" = 4, "up_blocks.0" = 2.5 }
[dispersion]
until = 0.4
layers = ["mid_block"]
[noise_damping]
until = 0.5
layers = { "mid_block" = 2 }
""")


def draw(pipe: Any, **options: Any) -> Any:
    """A picture `(height, width, 3)`, 0…1, at twice the native side."""
    generator = torch.Generator().manual_seed(0)
    with scalecrafter.applied(pipe, recipe=RECIPE, **options):
        return pipe("a fox", 256, 256, num_inference_steps=4, generator=generator, output_type="np").images[0]


@pytest.fixture
def pipe() -> Iterator[Any]:
    yield tiny_sd_pipeline().to("cuda")
    torch.compiler.reset()


def test_the_picture_of_the_cpu_is_drawn(pipe: Any) -> None:
    np.testing.assert_allclose(draw(pipe), draw(tiny_sd_pipeline()), atol=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_draws_nearly_the_same(pipe: Any, dtype: torch.dtype) -> None:
    whole = draw(pipe)
    half = draw(pipe.to(dtype))
    assert np.isfinite(half).all()
    assert np.abs(half - whole).mean() < 0.05


def test_channels_last_draws_the_same(pipe: Any) -> None:
    before = draw(pipe)
    pipe.unet.to(memory_format=torch.channels_last)
    np.testing.assert_allclose(draw(pipe), before, atol=0.02)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"], ids=["compiled", "CUDA graphs"])
def test_a_compiled_unet_draws_the_same(pipe: Any, mode: str) -> None:
    before = draw(pipe)
    pipe.unet.compile(mode=mode)
    np.testing.assert_allclose(draw(pipe), before, atol=0.02)


def test_model_offload_draws_the_same(pipe: Any) -> None:
    before = draw(pipe)
    pipe.enable_model_cpu_offload()
    np.testing.assert_allclose(draw(pipe), before, atol=0.02)


@pytest.mark.parametrize("use_stream", [False, True])
def test_group_offload_draws_the_same(pipe: Any, use_stream: bool) -> None:
    before = draw(pipe)
    pipe.unet.to("cpu")
    pipe.unet.enable_group_offload(
        onload_device=torch.device("cuda"),
        offload_device=torch.device("cpu"),
        offload_type="leaf_level",
        use_stream=use_stream,
    )
    np.testing.assert_allclose(draw(pipe), before, atol=0.02)


def test_exact_tiles_are_the_whole_within_their_budget(pipe: Any) -> None:
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0)).to("cuda")
    with torch.no_grad():
        whole = pipe.vae.decode(latents, return_dict=False)[0]
        apply_vae_memory(pipe.vae, "8MiB", tile=(128, 128))
        tiled = pipe.vae.decode(latents, return_dict=False)[0]
    torch.testing.assert_close(tiled, whole, rtol=1e-3, atol=1e-3)


def test_the_bench_measures_memory_and_ceilings() -> None:
    from typer.testing import CliRunner

    from scalecrafter.cli import app

    asked = ["bench", "--architecture", "critters", "--size", "512x512", "--rounds", "2", "--device", "cuda"]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert torch.cuda.get_device_name() in done.stdout
