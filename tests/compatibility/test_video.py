"""Video: spatial convolutions are re-dilated in every frame, temporal ones are not, and guidance is damped."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import scalecrafter
from scalecrafter import Recipe
from tests.support import tiny_architectures as tiny
from tests.support.reference_in_pipelines import reference_unet, relative_difference
from tests.support.tiny_models import also_in_float64
from tests.support.untrained_video import untrained_pipeline

STEPS = 2
FRAMES = 2
SIDE = 128
"""Image pixels: twice the native 64 of the untrained models, ×4 the pixels."""
TOLERANCE = 1e-9
CHANGE = 1e-3  # untrained weights answer weakly

DAMPED = Recipe.parse("""
    [redilation]
    until = 1
    layers = { "down_blocks.2" = 2, "mid_block" = 2.5, "up_blocks.0" = 2 }
    [dispersion]
    until = 0.4
    layers = ["mid_block"]
    [noise_damping]
    until = 0.6
    layers = { "mid_block" = 1.5 }
""")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def of_prompt(pipe: Any) -> Tensor:
    """AnimateDiff and text-to-video: latents `(batch, channels, frames, height, width)`."""
    output = pipe(
        "a red fox", negative_prompt="dull", height=SIDE, width=SIDE, num_frames=FRAMES, num_inference_steps=STEPS,
        guidance_scale=6.0, generator=generator(), output_type="latent",
    )  # fmt: skip
    return output.frames


def of_image(pipe: Any) -> Tensor:
    """Stable Video Diffusion: latents `(batch, frames, channels, height, width)`, guided more in later frames."""
    ramp = Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB")
    output = pipe(
        ramp, height=SIDE, width=SIDE, num_frames=FRAMES, num_inference_steps=STEPS, max_guidance_scale=4.0,
        noise_aug_strength=0.02, generator=generator(), output_type="latent",
    )  # fmt: skip
    return output.frames


@dataclass(frozen=True)
class Cell:
    model: str
    call: Callable[[Any], Tensor]
    recipe: str
    """The published recipe that the automatic one is at ×4."""


CELLS = {
    "animatediff": Cell("animatediff", of_prompt, "sd15-1024x1024"),
    "stable-video-diffusion": Cell("svd", of_image, "sd21-1024x1024"),
    "text-to-video": Cell("text-to-video", of_prompt, "sd21-1024x1024"),
}


@pytest.fixture(scope="module", params=CELLS)
def cell(request: pytest.FixtureRequest) -> tuple[Cell, Any]:
    cell = CELLS[request.param]
    pipe = tiny.quiet(untrained_pipeline(cell.model)).to(torch.float64)
    if hasattr(pipe, "text_encoder"):
        also_in_float64(pipe.text_encoder)
    else:  # the lowest diffusers encodes the picture in float32
        pipe.vae.encoder.register_forward_pre_hook(lambda _encoder, args: (args[0].double(),))
    return cell, pipe


@pytest.mark.slow
def test_effect_is_on_right_and_gone_after_remove(cell: tuple[Cell, Any]) -> None:
    kind, pipe = cell
    plan = scalecrafter.plan(pipe, SIDE, SIDE, STEPS)
    assert plan.recipe == Recipe.load(kind.recipe)
    assert "native 64×64" in str(plan)
    before = kind.call(pipe)
    modules = {name: list(module.__dict__) for name, module in pipe.unet.named_modules()}
    for recipe in (None, DAMPED):
        with scalecrafter.applied(pipe, recipe=recipe):
            ours = kind.call(pipe)
        acting = recipe or plan.recipe
        with reference_unet(pipe, tomllib.loads(acting.to_toml()), guided=True):
            assert relative_difference(ours, kind.call(pipe)) < TOLERANCE
        assert relative_difference(ours, before) > CHANGE
    with reference_unet(pipe, tomllib.loads(DAMPED.to_toml()), guided=False):
        assert relative_difference(ours, kind.call(pipe)) > CHANGE / 10  # the damping, which has an effect of its own
    assert torch.equal(kind.call(pipe), before)
    assert {name: list(module.__dict__) for name, module in pipe.unet.named_modules()} == modules


def test_temporal_layers_are_left_alone(cell: tuple[Cell, Any]) -> None:
    """Every 3×3 convolution of the spatial kind is dilated by a recipe for all, and no temporal layer is touched."""
    _, pipe = cell
    everything = '"down_blocks" = 2, "mid_block" = 2, "up_blocks" = 2, "conv_in" = 2, "conv_out" = 2'
    recipe = Recipe.parse(f"[redilation]\nuntil = 1\nlayers = {{ {everything} }}")
    touched = set(scalecrafter.plan(pipe, SIDE, SIDE, STEPS, recipe=recipe).factors(0))
    spatial = {n for n, m in pipe.unet.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)}
    assert touched == spatial
    assert not {name for name in touched if "temp" in name or "motion" in name}
    with scalecrafter.applied(pipe, recipe=recipe):
        patched = {name for name, module in pipe.unet.named_modules() if "_conv_forward" in module.__dict__}
        assert spatial <= patched
        assert not [n for n in patched if isinstance(pipe.unet.get_submodule(n), nn.Conv3d)]


@pytest.mark.slow
def test_one_frame_does_not_see_another_through_a_dilated_convolution(cell: tuple[Cell, Any]) -> None:
    """A spatial convolution of all frames at once is that of each frame alone."""
    _, pipe = cell
    name = next(n for n in scalecrafter.plan(pipe, SIDE, SIDE, STEPS, recipe=DAMPED).factors(0) if n.startswith("mid"))
    convolution = pipe.unet.get_submodule(name)
    frames = tiny.seeded_noise(FRAMES, convolution.in_channels, 12, 12)
    recorded: list[Tensor] = []
    with scalecrafter.applied(pipe, recipe=DAMPED):
        handle = convolution.register_forward_hook(lambda _m, args, out: recorded.extend([args[0], out]))
        CELLS[next(key for key, c in CELLS.items() if c is cell[0])].call(pipe)
        handle.remove()
        together = convolution(frames)
        alone = torch.cat([convolution(frame[None]) for frame in frames])
    assert recorded[0].shape[0] == 2 * FRAMES  # a guided pair of FRAMES frames
    assert relative_difference(together, alone) < TOLERANCE


def test_a_video_is_decoded_within_a_budget_where_the_vae_is_a_known_one() -> None:
    pipe = untrained_pipeline("animatediff")
    with scalecrafter.applied(pipe, vae_memory="64MiB"):
        frames = pipe("fox", num_frames=2, num_inference_steps=1, generator=generator(), output_type="pt").frames
    expected = pipe("fox", num_frames=2, num_inference_steps=1, generator=generator(), output_type="pt").frames
    assert relative_difference(frames, expected) < 1e-4


def test_a_temporal_decoder_is_left_alone_or_refused_by_name() -> None:
    pipe = untrained_pipeline("svd")
    scalecrafter.remove(scalecrafter.apply(pipe))
    with pytest.raises(scalecrafter.ModelError, match="Temporal"):
        scalecrafter.apply(pipe, vae_memory="1GiB")


def test_untrained_models_have_the_same_weights_each_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    first, second = (untrained_pipeline("text-to-video") for _ in range(2))
    assert torch.equal(torch.randn(4), expected)
    states = [pipe.unet.state_dict() for pipe in (first, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_noise_damping_is_refused_where_the_attention_counts_on_whole_pairs() -> None:
    """TextToVideoZero makes videos of a picture model, by attention from frame to frame."""
    from diffusers import TextToVideoZeroPipeline

    parts = tiny.sd1().components
    pipe = TextToVideoZeroPipeline(
        **{name: parts[name] for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")},
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    with pytest.raises(scalecrafter.RecipeError, match="TextToVideoZeroPipeline lets frames attend"):
        scalecrafter.apply(pipe, recipe=DAMPED)
    undamped = Recipe.from_mapping(DAMPED.model_dump(exclude={"noise_damping", "freeu"}, exclude_none=True))
    scalecrafter.remove(scalecrafter.apply(pipe, recipe=undamped))
