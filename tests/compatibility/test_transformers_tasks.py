"""Transformers in other pipelines and surroundings: image to image, inpainting, ControlNet, offload, odd sizes."""

from __future__ import annotations

import copy
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import scalecrafter
from scalecrafter import Recipe
from tests.support.reference_transformers import Reference, by_hand
from tests.support.tiny_transformers import CASES, embeddings, flow_scheduler, quiet, tiny_flux
from tests.support.vaes import sd_vae

from .test_transformers import LARGE, NATIVE, close, recipe, same
from .test_transformers_parts import flux_with_control

FLUX = CASES["flux"]
PICTURE = torch.rand((1, 3, 96, 80), generator=torch.Generator().manual_seed(4))
MASK = (torch.arange(80) < 40).float().expand(1, 1, 96, 80)


def flux_with_vae(kind: Any) -> Any:
    """A pipeline of FLUX with a VAE of a factor of 4 and without attention, which `by_hand` would scale as well."""
    levels: dict[str, Any] = {
        "block_out_channels": (8,) * 3, "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
    }  # fmt: skip
    vae = sd_vae(layers=1, latent_channels=1, shift_factor=0.1, mid_block_add_attention=False, **levels)
    return quiet(kind(flow_scheduler(), vae, None, None, None, None, tiny_flux()))


def redrawn(pipe: Any, **more: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    call = {"height": 96, "width": 80, "strength": 0.5, "num_inference_steps": 4, "output_type": "latent"}
    latents: Tensor = pipe(**FLUX.call, image=PICTURE, generator=generator, **call, **more)[0]
    return latents


@pytest.mark.parametrize("kind", [diffusers.FluxImg2ImgPipeline, diffusers.FluxInpaintPipeline])
def test_a_picture_that_is_redrawn_has_the_positions_of_the_formulas(kind: Any) -> None:
    pipe = flux_with_vae(kind)
    given = {"mask_image": MASK} if "Inpaint" in kind.__name__ else {}
    before = redrawn(pipe, **given)
    with scalecrafter.applied(pipe, recipe=recipe("flux", "ntk", 1.3)):
        ours = redrawn(pipe, **given)
    with by_hand(pipe, "flux", Reference("ntk", NATIVE, LARGE), 1.3):
        theirs = redrawn(pipe, **given)
    assert close(ours, theirs)
    assert not close(ours, before)
    assert same(redrawn(pipe, **given), before)


def test_until_counts_the_whole_trajectory_where_a_run_begins_late() -> None:
    """Of 4 steps at strength 0.5 the last two run, places 0.5 and 0.75."""
    pipe = flux_with_vae(diffusers.FluxImg2ImgPipeline)
    seen: list[bool] = []
    named = recipe("flux").to_toml().replace("until = 1.0", "until = 0.6")
    scalecrafter.apply(pipe, recipe=Recipe.parse(named))
    calls = pipe.transformer._scalecrafter._calls
    pipe.transformer.register_forward_hook(lambda *_: seen.append(calls.now.positions is not None))
    redrawn(pipe)
    assert seen == [True, False]


def test_a_copied_control_net_follows_the_copied_transformer() -> None:
    control, transformer = flux_with_control()
    pipe = quiet(diffusers.FluxControlNetPipeline(flow_scheduler(), None, None, None, None, None, transformer, control))
    scalecrafter.apply(pipe, recipe=recipe("flux", "ntk", 1.2))
    twin = copy.deepcopy(pipe)
    ids = torch.tensor([[0.0, row, column] for row in range(12) for column in range(10)])
    arguments = {
        "hidden_states": embeddings(1, 120, 4, seed=7), "timestep": torch.tensor([0.5]), "img_ids": ids,
        "txt_ids": torch.zeros(5, 3), "guidance": torch.tensor([3.5]), "return_dict": False,
        "encoder_hidden_states": embeddings(1, 5, 32), "pooled_projections": embeddings(1, 32),
        "controlnet_cond": embeddings(1, 120, 4, seed=8),
    }  # fmt: skip
    applied = control(**arguments)[0][0]
    scalecrafter.remove(pipe)
    plain = control(**arguments)[0][0]
    assert not close(plain, applied)
    assert same(twin.controlnet(**arguments)[0][0], applied)
    scalecrafter.remove(twin)
    assert same(twin.controlnet(**arguments)[0][0], plain)


@pytest.mark.parametrize("first", ["apply", "offload"])
@pytest.mark.parametrize("family", CASES)
def test_offloading_before_or_after_apply_changes_nothing(family: str, first: str) -> None:
    accelerate = pytest.importorskip("accelerate")
    case = CASES[family]
    with scalecrafter.applied(pipe := case.make(), recipe=recipe(family)):
        expected = case.run(pipe, *LARGE)
    pipe = case.make()
    plain = case.run(pipe, *LARGE)
    if first == "apply":
        scalecrafter.apply(pipe, recipe=recipe(family))
    accelerate.cpu_offload(pipe.transformer, torch.device("cpu"))
    if first == "offload":
        scalecrafter.apply(pipe, recipe=recipe(family))
    assert same(case.run(pipe, *LARGE), expected)
    scalecrafter.remove(pipe)
    assert same(case.run(pipe, *LARGE), plain)


@pytest.mark.parametrize("size", [(9, 13), (13, 9)])
@pytest.mark.parametrize("family", CASES)
def test_a_batch_of_four_at_odd_sizes_is_its_pictures(family: str, size: tuple[int, int]) -> None:
    case = CASES[family]
    with scalecrafter.applied(pipe := case.make(), recipe=recipe(family)):
        together = case.run(pipe, *size, images=4)
        alone = case.run(pipe, *size)
    assert together.shape[0] == 4
    assert close(together[:1], alone)


def rounding(family: str, applied: bool) -> float:
    """How far a picture in bfloat16 is from that in float32, of the latter's mean size."""
    case = CASES[family]
    pipe = case.make()
    if applied:
        scalecrafter.apply(pipe, recipe=recipe(family))
    exact = case.run(pipe, *LARGE)
    pipe.transformer.to(torch.bfloat16)
    given = {
        name: value.bfloat16() if isinstance(value, Tensor) and value.is_floating_point()
        else [one.bfloat16() for one in value] if isinstance(value, list) else value
        for name, value in case.call.items()
    }  # fmt: skip
    rough = case.run(pipe, *LARGE, **given).float()
    return float((rough - exact).abs().mean() / exact.abs().mean())


@pytest.mark.parametrize("family", CASES)
def test_half_precision_is_as_near_as_without(family: str) -> None:
    """Random weights round as they like: FLUX.1's picture is 23 % off, FLUX.2's 72 %, applied or not."""
    assert rounding(family, applied=True) < 1.15 * rounding(family, applied=False)


@pytest.mark.parametrize("family", CASES)
def test_a_lora_before_or_after_is_the_same_and_can_be_taken_off(family: str) -> None:
    peft = pytest.importorskip("peft")
    case, pictures = CASES[family], []
    for first in ("apply", "lora"):
        pipe = case.make()
        if first == "apply":
            scalecrafter.apply(pipe, recipe=recipe(family))
        torch.manual_seed(3)
        pipe.transformer.add_adapter(peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_k"]))
        if first == "lora":
            scalecrafter.apply(pipe, recipe=recipe(family))
        pictures.append(case.run(pipe, *LARGE))
    pipe.transformer.delete_adapters("default")
    assert same(*pictures)
    with scalecrafter.applied(without := case.make(), recipe=recipe(family)):
        assert same(case.run(pipe, *LARGE), case.run(without, *LARGE))
        assert not close(pictures[0], case.run(without, *LARGE))
