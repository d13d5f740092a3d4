"""The embedded models as they are shipped: they open without a network, are small, and do what they are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import scalecrafter
from scalecrafter.models.embedded import EMBEDDED_MODELS, embedded_folder


@pytest.fixture(scope="module")
def critters() -> Any:
    return scalecrafter.load_pipeline("critters", device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def critters_dit() -> Any:
    return scalecrafter.load_pipeline("critters-dit", device="cpu", dtype="fp32")


def test_all_weights_of_the_package_are_safetensors_of_less_than_60_megabytes() -> None:
    files = [path for path in Path(scalecrafter.__file__).parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") < 60_000_000
    assert not [path for path in files if path.suffix in (".bin", ".ckpt", ".pt")]


@pytest.mark.parametrize("model", EMBEDDED_MODELS)
def test_configurations_do_not_tell_where_parts_were_made(model: str) -> None:
    files = list(embedded_folder(model).rglob("*.json"))
    assert len(files) > 5
    assert not [file for file in files if "_name_or_path" in file.read_text("utf-8")]


@pytest.mark.parametrize("model", EMBEDDED_MODELS)
def test_weights_are_half_precision(model: str) -> None:
    folder = embedded_folder(model)
    assert (folder / "README.md").is_file()
    for weights in folder.rglob("*.safetensors"):
        assert {value.dtype for value in load_file(weights).values()} == {torch.float16}


def test_shared_weights_are_those_of_the_other_component(critters: Any, critters_dit: Any) -> None:
    for one, other in (
        (critters.vae, critters_dit.vae),
        (critters_dit.text_encoder, critters_dit.text_encoder_2),
    ):
        ours, theirs = one.state_dict(), other.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    configs = [dict(pipe.vae.config) for pipe in (critters, critters_dit)]
    for config in configs:
        config.pop("_name_or_path", None)
    assert configs[0] == configs[1]


def test_the_transformers_anatomy_is_that_of_flux(critters_dit: Any) -> None:
    assert type(critters_dit).__name__ == "FluxPipeline"
    assert scalecrafter.plan(critters_dit, 256, 256).recipe is None
    assert scalecrafter.plan(critters_dit, 512, 512).recipe.positions.method == "yarn"


@pytest.mark.slow
def test_the_transformer_draws_the_colour_that_was_asked_for(critters_dit: Any) -> None:
    for colour, channel in (("red", 0), ("green", 1), ("blue", 2)):
        request = scalecrafter.Request.from_mapping(
            {"prompt": f"a {colour} bear in the snow", "model": "critters-dit", "seed": 3, "steps": 12,
             "width": 256, "height": 256}
        )  # fmt: skip
        picture = np.asarray(scalecrafter.generate(critters_dit, request).image, dtype=np.float64)
        middle = picture[96:208, 88:168].mean((0, 1))
        assert middle.argmax() == channel, (colour, middle)


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
