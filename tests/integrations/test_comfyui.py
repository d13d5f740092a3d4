"""The node pack in a real ComfyUI: on, right, gone; with LoRA, ControlNet and a queue. Needs COMFYUI, a checkout."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler

import scalecrafter
from scalecrafter.errors import ScaleCrafterError
from tests.support.comfy_checkout import (
    PACK,
    Queue,
    api_prompt,
    bypassed,
    checkout,
    comfy_model,
    comfy_vae,
    conditioning,
    import_comfy,
    node_pack,
    our_critters,
)

pytestmark = [
    pytest.mark.skipif(checkout() is None, reason="COMFYUI names no checkout of ComfyUI"),
    pytest.mark.slow,
]
SIZE, STEPS, CFG = 48, 4, 3.0  # with four steps all timesteps of the linear spacing are whole numbers
RECIPE = """
architecture = "any"
[redilation]
until = 0.8
progressive = true
layers = { "down_blocks.1" = 2, "down_blocks.2" = 2, "mid_block" = 3, "up_blocks.1" = 2 }
[dispersion]
until = 0.3
layers = ["down_blocks.2", "mid_block"]
"""
DAMPED = RECIPE + '[noise_damping]\nuntil = 0.6\nlayers = { "mid_block" = 2 }\n'


@pytest.fixture(scope="module")
def pipe() -> Any:
    import_comfy()
    pipe = our_critters()
    configuration = {**pipe.scheduler.config, "timestep_spacing": "linspace", "steps_offset": 0}
    pipe.scheduler = EulerDiscreteScheduler.from_config(configuration)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def model(pipe: Any) -> Any:
    return comfy_model(pipe)


@pytest.fixture(scope="module")
def conds(pipe: Any) -> tuple[Any, Any]:
    return conditioning(pipe, "a blue fox in the snow"), conditioning(pipe, "")


@pytest.fixture(autouse=True)
def _a_thread_of_its_own() -> Iterator[None]:
    with torch.inference_mode():  # as ComfyUI's executor has it
        yield


def noise(channels: int) -> torch.Tensor:
    return torch.randn(1, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(3))


def sampled(model: Any, conds: tuple[Any, Any], **more: Any) -> torch.Tensor:
    """Latents as the U-Net has them, by ComfyUI's sampler."""
    import comfy.sample

    settings: dict[str, Any] = {"steps": STEPS, "cfg": CFG, "sampler_name": "euler", "scheduler": "normal"}
    drawn = noise(model.model.latent_format.latent_channels)
    latent = torch.zeros_like(drawn)
    made = comfy.sample.sample(
        model, drawn, positive=conds[0], negative=conds[1], latent_image=latent, disable_pbar=True,
        **(settings | more),
    )  # fmt: skip
    return model.model.process_latent_in(made)


def on(model: Any, toml: str = RECIPE, damping: bool = False) -> Any:
    nodes = node_pack().NODE_CLASS_MAPPINGS
    (patched,) = nodes["ScaleCrafter"]().apply(model, "automatic", toml)
    return nodes["ScaleCrafterNoiseDampedGuidance"]().apply(patched)[0] if damping else patched


def by_diffusers(pipe: Any, recipe: str | None) -> torch.Tensor:
    """The same picture by the library's own way, from the same noise."""
    pipe.scheduler.set_timesteps(STEPS)
    sigma = pipe.scheduler.sigmas[0]
    latents = noise(pipe.unet.config.in_channels) * torch.sqrt(1 + sigma**2) / pipe.scheduler.init_noise_sigma
    call: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": CFG, "output_type": "latent"}
    call |= {"height": 8 * SIZE, "width": 8 * SIZE, "latents": latents}
    if recipe is not None:
        scalecrafter.apply(pipe, recipe=scalecrafter.Recipe.parse(recipe, "a test"))
    try:
        made: torch.Tensor = pipe("a blue fox in the snow", **call).images
    finally:
        scalecrafter.remove(pipe)
    return made


def near(first: torch.Tensor, second: torch.Tensor) -> bool:
    return bool((first - second).abs().max() < 2e-3 * second.abs().max())


@pytest.mark.parametrize(("toml", "damping"), [(None, False), (RECIPE, False), (DAMPED, True)])
def test_the_latents_are_those_of_the_librarys_own_way(
    pipe: Any, model: Any, conds: tuple[Any, Any], toml: str | None, damping: bool
) -> None:
    made = sampled(model if toml is None else on(model, toml, damping), conds)
    assert near(made, by_diffusers(pipe, toml))


def test_it_is_on_and_then_gone_and_the_same_again(model: Any, conds: tuple[Any, Any]) -> None:
    plain = sampled(model, conds)
    first = sampled(on(model), conds)
    damped = sampled(on(model, DAMPED, damping=True), conds)
    assert not near(first, plain)
    assert not near(damped, sampled(on(model, DAMPED), conds))
    assert torch.equal(sampled(model, conds), plain)  # the node is unplugged
    assert torch.equal(sampled(on(model), conds), first)
    assert all("_conv_forward" not in part.__dict__ for part in model.model.modules())


def test_a_second_node_replaces_the_first(model: Any, conds: tuple[Any, Any]) -> None:
    assert torch.equal(sampled(on(on(model, DAMPED)), conds), sampled(on(model), conds))


def test_a_lora_acts_with_it_as_merged_into_the_weights(pipe: Any, model: Any, conds: tuple[Any, Any]) -> None:
    name, ours = "input_blocks.3.0.in_layers.2.weight", pipe.unet.down_blocks[1].resnets[0].conv1.weight
    change = 0.2 * torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    with_lora = model.clone()
    with_lora.add_patches({f"diffusion_model.{name}": ("diff", (change,))}, 1.0)
    made = sampled(on(with_lora), conds)
    merged = copy.deepcopy(ours.data)
    try:
        ours.data = merged + change
        wanted = by_diffusers(pipe, RECIPE)
    finally:
        ours.data = merged
    assert near(made, wanted)
    assert not near(made, sampled(on(model), conds))


def test_a_controlnet_acts_with_it_and_is_not_dilated(model: Any, conds: tuple[Any, Any]) -> None:
    import comfy.controlnet
    import comfy.ops
    from comfy.cldm.cldm import ControlNet

    config = {**model.model.model_config.unet_config, "hint_channels": 3}
    for key in ("out_channels", "transformer_depth_output"):
        config.pop(key, None)
    config["num_res_blocks"], config["transformer_depth"] = [1] * 4, [0, 1, 1, 0]
    network = ControlNet(**config, operations=comfy.ops.disable_weight_init, device="cpu").eval()
    for part in network.modules():
        if isinstance(part, torch.nn.GroupNorm):
            part.num_groups = 16
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    control = comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))
    control.set_cond_hint(torch.rand(1, 3, 8 * SIZE, 8 * SIZE, generator=generator), 1.0, (0.0, 1.0))
    controlled = tuple([[cond[0][0], {"control": control, "control_apply_to_uncond": True}]] for cond in conds)
    plain, dilated = sampled(model, controlled), sampled(on(model), controlled)
    assert not near(plain, sampled(model, conds))
    assert not near(dilated, plain)
    assert not near(dilated, sampled(on(model), conds))
    assert torch.equal(sampled(model, controlled), plain)
    assert all("_conv_forward" not in part.__dict__ for part in network.modules())


def test_a_run_that_is_cancelled_in_the_middle_leaves_nothing(model: Any, conds: tuple[Any, Any]) -> None:
    import comfy.model_management

    plain, wanted = sampled(model, conds), sampled(on(model), conds)

    def cancel(step: int, *_: Any) -> None:
        if step == 1:
            comfy.model_management.interrupt_current_processing()
        comfy.model_management.throw_exception_if_processing_interrupted()  # as the hook of ComfyUI's progress does

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sampled(on(model), conds, callback=cancel)
    assert torch.equal(sampled(model, conds), plain)
    assert torch.equal(sampled(on(model), conds), wanted)


def test_three_prompts_in_a_queue_each_get_their_own(pipe: Any) -> None:
    queue = Queue(pipe)
    flow = json.loads((PACK / "workflows" / "text-to-image.json").read_text("utf-8"))
    small = {"EmptyLatentImage": {"width": 8 * SIZE, "height": 8 * SIZE}, "KSampler": {"steps": STEPS, "cfg": CFG}}
    on_again = {**small, "ScaleCrafter": {"recipe": "automatic", "toml": DAMPED}}
    prompt = api_prompt(flow, on_again)
    unplugged = bypassed(prompt, "ScaleCrafter", "ScaleCrafterNoiseDampedGuidance")
    with torch.inference_mode(False):
        first, plain, again = (queue.run(one)[0] for one in (prompt, unplugged, prompt))
        assert np.abs(first - plain).mean() > 1
        assert np.array_equal(first, again)
        assert np.array_equal(Queue(pipe).run(prompt)[0], first)  # nothing of it was kept from the first


@pytest.mark.parametrize("name", ["enlarge", "compare"])
def test_a_shipped_workflow_runs(pipe: Any, name: str) -> None:
    flow = json.loads((PACK / "workflows" / f"{name}.json").read_text("utf-8"))
    small: dict[str, dict[str, Any]] = {
        "EmptyLatentImage": {"width": 8 * SIZE, "height": 8 * SIZE}, "KSampler": {"steps": 2, "cfg": CFG},
        "ScaleCrafter": {"native_side": 256}, "ScaleCrafterPlan": {"width": 512, "height": 512},
    }  # fmt: skip
    with torch.inference_mode(False):
        queue = Queue(pipe)
        pictures = queue.run(api_prompt(flow, small))
    assert all(picture.std() > 1 for picture in pictures)
    if name == "enlarge":
        assert pictures[0].shape == (512, 512, 3)
    else:
        assert np.abs(pictures[-1] - pictures[-2]).mean() > 1  # without, and with ScaleCrafter


@pytest.mark.parametrize("memory", ["off", "6MiB"])
def test_exact_tiles_give_what_comfyuis_own_vae_gives(pipe: Any, memory: str) -> None:
    vae, nodes = comfy_vae(pipe), node_pack().NODE_CLASS_MAPPINGS
    size = (2, pipe.vae.config.latent_channels, 24, 40)
    latents = {"samples": 0.5 * torch.randn(size, generator=torch.Generator().manual_seed(0))}
    (pictures,) = nodes["ScaleCrafterExactDecode"]().decode(latents, vae, memory)
    torch.testing.assert_close(pictures, vae.decode(latents["samples"]), atol=1e-4, rtol=0)
    (encoded,) = nodes["ScaleCrafterExactEncode"]().encode(pictures, vae, memory)
    torch.testing.assert_close(encoded["samples"], vae.encode(pictures), atol=1e-3, rtol=0)


def test_a_plan_is_a_picture_and_a_text(model: Any) -> None:
    image, text = node_pack().NODE_CLASS_MAPPINGS["ScaleCrafterPlan"]().plan(on(model), 384, 384, STEPS)
    assert image.ndim == 4
    assert 0.0 <= float(image.min()) < float(image.max()) <= 1.0
    assert "down_blocks.1" in text


def test_what_would_have_no_effect_is_an_error(model: Any) -> None:
    nodes = node_pack().NODE_CLASS_MAPPINGS
    wrong = '[redilation]\nuntil = 0.5\nlayers = { "down_blocks.9" = 2 }\n'
    with pytest.raises(ScaleCrafterError, match=r"down_blocks\.9"):
        nodes["ScaleCrafter"]().apply(model, "automatic", wrong)
    with pytest.raises(ScaleCrafterError, match="put its node before"):
        nodes["ScaleCrafterNoiseDampedGuidance"]().apply(model)
    with pytest.raises(ScaleCrafterError, match=r"no \[noise_damping\]"):
        nodes["ScaleCrafterNoiseDampedGuidance"]().apply(on(model))
