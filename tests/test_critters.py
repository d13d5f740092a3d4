"""The embedded model as it is shipped: it opens without a network, is small, and does what it is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import scalecrafter
from scalecrafter.models.embedded import embedded_folder


@pytest.fixture(scope="module")
def critters() -> Any:
    return scalecrafter.load_pipeline("critters", device="cpu", dtype="fp32")


def test_weights_are_half_precision_safetensors_of_less_than_48_megabytes() -> None:
    folder = embedded_folder("critters")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") < 48_000_000
    assert not [path for path in files if path.suffix in (".bin", ".ckpt", ".pt")]
    assert (folder / "README.md").is_file()


def test_anatomy_is_that_of_stable_diffusion(critters: Any) -> None:
    assert type(critters).__name__ == "StableDiffusionPipeline"
    assert len(critters.unet.down_blocks) == 4
    assert critters.unet.config.sample_size * critters.vae_scale_factor == 256
    assert scalecrafter.plan(critters, 256, 256).recipe is None
    assert scalecrafter.plan(critters, 512, 512).factors(0)


@pytest.mark.slow
@pytest.mark.parametrize(("colour", "channel"), [("red", 0), ("green", 1), ("blue", 2)])
def test_a_native_picture_has_the_colour_that_was_asked_for(critters: Any, colour: str, channel: int) -> None:
    picture = critters(
        f"a {colour} bear in the snow",
        num_inference_steps=12,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(3),
    ).images[0]
    middle = np.asarray(picture, dtype=np.float64)[96:208, 88:168].mean((0, 1))
    assert middle.argmax() == channel, middle
