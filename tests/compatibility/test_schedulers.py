"""Every scheduler of Stable Diffusion: which U-Net calls of a run are re-dilated, and that the result is right.

What is expected is told from the scheduler's own table of timesteps, and that table's length from how the sampler
works, not from the code under test.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import diffusers
import pytest
import torch
import torch.nn.functional as F
from diffusers import LatentConsistencyModelPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from diffusers.schedulers import KarrasDiffusionSchedulers
from torch import Tensor

import scalecrafter
from scalecrafter import Recipe
from scalecrafter.patching.damping import GuidanceNotice
from tests.support.reference import denoise
from tests.support.small_pipeline import SMALL, small_pipeline
from tests.support.tiny_models import ddim, tiny_sd_unet

UNTIL = "0.55"
DILATED = Recipe.parse(f'[redilation]\nuntil = {UNTIL}\nlayers = {{ "mid_block" = 2 }}')
DAMPED = f"""
[redilation]
until = {UNTIL}
layers = {{ "down_blocks.1" = 2, "mid_block" = 2 }}
[noise_damping]
until = 0.3
layers = {{}}
"""
GUIDANCE = 5.0


def once_a_step(steps: int) -> int:
    """One evaluation a step."""
    return steps


def twice_a_step(steps: int) -> int:
    """A second-order method evaluates each step but the last one twice (Karras et al. 2022, algorithm 1)."""
    return 2 * steps - 1


def plms(steps: int) -> int:
    """Pseudo linear multistep begins with a step of order 2, which evaluates the second timestep twice."""
    return steps + 1


def runge_kutta_first(steps: int) -> int:
    """PNDM: three Runge-Kutta steps of four evaluations, then one a step (Liu et al. 2022, algorithm 2)."""
    return 12 + steps - 3


TABLE: dict[str, tuple[str, dict[str, Any], Callable[[int], int]]] = {
    "ddim": ("DDIMScheduler", {}, once_a_step),
    "ddim-trailing": ("DDIMScheduler", {"timestep_spacing": "trailing"}, once_a_step),
    "ddim-parallel": ("DDIMParallelScheduler", {}, once_a_step),
    "ddpm": ("DDPMScheduler", {}, once_a_step),
    "ddpm-parallel": ("DDPMParallelScheduler", {}, once_a_step),
    "deis": ("DEISMultistepScheduler", {}, once_a_step),
    "dpm++-2m": ("DPMSolverMultistepScheduler", {}, once_a_step),
    "dpm++-2m-karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, once_a_step),
    "dpm++-2m-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, once_a_step),
    "dpm++-2s": ("DPMSolverSinglestepScheduler", {"lower_order_final": True}, once_a_step),
    "dpm++-sde": ("DPMSolverSDEScheduler", {"noise_sampler_seed": 3}, twice_a_step),
    "edm-euler": ("EDMEulerScheduler", {}, once_a_step),
    "euler": ("EulerDiscreteScheduler", {}, once_a_step),
    "euler-trailing": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}, once_a_step),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}, once_a_step),
    "heun": ("HeunDiscreteScheduler", {}, twice_a_step),
    "heun-karras": ("HeunDiscreteScheduler", {"use_karras_sigmas": True}, twice_a_step),
    "dpm2": ("KDPM2DiscreteScheduler", {}, twice_a_step),
    "dpm2-a": ("KDPM2AncestralDiscreteScheduler", {}, twice_a_step),
    "lcm": ("LCMScheduler", {}, once_a_step),
    "lms": ("LMSDiscreteScheduler", {}, once_a_step),
    "plms": ("PNDMScheduler", {"skip_prk_steps": True}, plms),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": False}, runge_kutta_first),
    "sa-solver": ("SASolverScheduler", {}, once_a_step),
    "tcd": ("TCDScheduler", {}, once_a_step),
    "unipc": ("UniPCMultistepScheduler", {}, once_a_step),
    "unipc-karras": ("UniPCMultistepScheduler", {"use_karras_sigmas": True}, once_a_step),
}


def scheduler(name: str) -> Any:
    """One of the table, with the noise schedule of Stable Diffusion."""
    kind, settings, _ = TABLE[name]
    if name == "dpm++-sde":
        pytest.importorskip("torchsde")
    return getattr(diffusers, kind).from_config({**ddim().config, **settings})


@functools.cache
def pipeline(kind: Any = StableDiffusionPipeline) -> Any:
    """A pipeline in float64 with a U-Net of two levels."""
    return small_pipeline(kind).to(torch.float64)


def run(pipe: Any, steps: int, **options: Any) -> Tensor:
    start = {} if "image" in options else {"latents": noise()}
    options = {"prompt": "a fox", "guidance_scale": GUIDANCE, **start, **options}
    generator = torch.Generator().manual_seed(1)
    return pipe(num_inference_steps=steps, output_type="latent", generator=generator, **options).images


def noise() -> Tensor:
    return torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@contextmanager
def dilation_of_each_call(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """For each U-Net call, whether torch was asked for a dilated convolution in it."""
    calls: list[bool] = []
    convolve = F.conv2d

    def conv2d(features: Tensor, weight: Tensor, bias: Any, *settings: Any) -> Tensor:
        _stride, _padding, dilation, _groups = settings
        if calls:  # after the VAE has encoded the image to start from
            calls[-1] |= max(dilation) > 1
        return convolve(features, weight, bias, *settings)

    handle = pipe.unet.register_forward_pre_hook(lambda *_: calls.append(False))
    with monkeypatch.context() as patch:
        patch.setattr(F, "conv2d", conv2d)
        yield calls
    handle.remove()


def inside(length: int, begin: int = 0) -> list[bool]:
    """Step i of N is inside a span when i / N < until; a run may begin late in the table."""
    return [Fraction(step, length) < Fraction(UNTIL) for step in range(begin, length)]


def test_the_table_has_every_scheduler_that_diffusers_calls_compatible() -> None:
    tried = {kind for kind, _, _ in TABLE.values()}
    assert {one.name for one in KarrasDiffusionSchedulers} <= tried
    assert {kind.__name__ for kind in ddim().compatibles} <= tried


@pytest.mark.sampled
@pytest.mark.parametrize("steps", [4, 15])
@pytest.mark.parametrize("name", TABLE)
def test_the_span_follows_the_scheduler(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, length = pipeline(), TABLE[name][2](steps)
    pipe.scheduler = scheduler(name)
    with scalecrafter.applied(pipe, recipe=DILATED), dilation_of_each_call(pipe, monkeypatch) as calls:
        run(pipe, steps)
    assert len(pipe.scheduler.timesteps) == length
    assert calls == inside(length)
    assert sum(calls) == math.ceil(Fraction(UNTIL) * length)


SHORT = ("ddim", "euler", "euler-trailing", "lcm", "tcd", "dpm++-2m", "unipc", "heun")


@pytest.mark.parametrize(
    ("name", "steps"), [*((name, steps) for name in SHORT for steps in (1, 2)), ("plms", 2)]
)  # diffusers' PLMS needs two steps
def test_the_span_of_one_or_two_steps(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline()
    pipe.scheduler = scheduler(name)
    with scalecrafter.applied(pipe, recipe=DILATED), dilation_of_each_call(pipe, monkeypatch) as calls:
        run(pipe, steps)
    assert calls == inside(TABLE[name][2](steps))


@pytest.mark.sampled
@pytest.mark.parametrize(("steps", "strength"), [(5, 0.7), (5, 0.99), (4, 0.5)])
@pytest.mark.parametrize("name", [name for name in TABLE if name != "edm-euler"])
def test_image_to_image_begins_late_in_the_same_table(
    name: str, steps: int, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, length = pipeline(StableDiffusionImg2ImgPipeline), TABLE[name][2](steps)
    pipe.scheduler = scheduler(name)
    skipped = (steps - int(steps * strength)) * pipe.scheduler.order
    with scalecrafter.applied(pipe, recipe=DILATED), dilation_of_each_call(pipe, monkeypatch) as calls:
        run(pipe, steps, image=torch.rand(1, 3, 64, 64, dtype=torch.float64), strength=strength)
    assert calls == inside(length, skipped)


@pytest.mark.parametrize("strength", [0.1, 0.02])
@pytest.mark.parametrize("name", ["dpm++-2m-karras", "unipc-karras"])
def test_timesteps_that_stand_twice_in_the_table_are_told_apart(
    name: str, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many steps of Karras' spacing, the last ones fall on the same whole timesteps."""
    pipe = pipeline(StableDiffusionImg2ImgPipeline)
    pipe.scheduler = scheduler(name)
    pipe.scheduler.set_timesteps(60)
    table = pipe.scheduler.timesteps.tolist()
    twice = next(step for step in range(54, 60) if table[step] == table[step - 1])
    until = twice / 60  # so that the first of the two is inside of the span, and the second is not
    recipe = Recipe.parse(f'[redilation]\nuntil = {until}\nlayers = {{ "mid_block" = 2 }}')
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    with scalecrafter.applied(pipe, recipe=recipe), dilation_of_each_call(pipe, monkeypatch) as calls:
        run(pipe, 60, image=image, strength=strength)
    assert calls == [step < twice for step in range(60 - int(60 * strength), 60)]


@pytest.mark.sampled
@pytest.mark.parametrize("name", TABLE)
def test_each_scheduler_agrees_with_the_reference_implementation(name: str) -> None:
    pipe = pipeline()
    pipe.scheduler = scheduler(name)
    steps = 6
    plain = run(pipe, steps)
    encoded = pipe.encode_prompt("a fox", "cpu", 1, True, "")
    accepted = inspect.signature(pipe.scheduler.step).parameters
    draws = {"generator": torch.Generator().manual_seed(1), "eta": 0.0}
    expected = denoise(
        pipe.unet,
        pipe.scheduler,
        noise(),
        prompt_embeds=encoded[0],
        negative_embeds=encoded[1],
        recipe=Recipe.parse(DAMPED).model_dump(exclude_none=True),
        steps=steps,
        guidance_scale=GUIDANCE,
        **{key: value for key, value in draws.items() if key in accepted},
    )
    with scalecrafter.applied(pipe, recipe=Recipe.parse(DAMPED)):
        result = run(pipe, steps)
    assert (result - plain).norm() / plain.norm() > 1e-3
    assert (result - expected).norm() / expected.norm() < 1e-5  # many schedulers step in float32
    assert torch.equal(run(pipe, steps), plain)


def calls_of_the_unet(pipe: Any, call: Callable[[], Any]) -> list[int]:
    """The batch of each U-Net call."""
    batches: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(lambda _unet, args: batches.append(args[0].shape[0]))
    call()
    handle.remove()
    return batches


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(("name", "scale"), [("lcm", 1.0), ("tcd", 0.0), ("euler-trailing", 0.0)])
def test_without_guidance_noise_damping_says_that_it_rests(
    name: str, scale: float, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LCM, TCD and Turbo models run without guidance: no pair to damp, and re-dilation as ever."""
    pipe, steps = pipeline(), 4
    pipe.scheduler = scheduler(name)
    options = {"guidance_scale": scale, "num_images_per_prompt": images, "latents": noise().expand(images, -1, -1, -1)}
    with scalecrafter.applied(pipe, recipe=Recipe.parse(DAMPED)):
        with pytest.warns(
            GuidanceNotice, match=r"no classifier-free guidance .* re-dilation and dispersion act"
        ) as told:
            batches = calls_of_the_unet(pipe, lambda: run(pipe, steps, **options))
        assert len([one for one in told if one.category is GuidanceNotice]) == 1
        with dilation_of_each_call(pipe, monkeypatch) as calls:
            run(pipe, steps, **options)
    assert batches == [images] * steps
    assert calls == inside(steps)


def test_a_distilled_model_with_its_own_guidance_is_not_damped_either(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = tiny_sd_unet(**SMALL, time_cond_proj_dim=8).double()
    components = {**pipeline().components, "unet": unet, "scheduler": scheduler("lcm")}
    pipe = LatentConsistencyModelPipeline(**components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    plain = run(pipe, 4, guidance_scale=8.0)
    with scalecrafter.applied(pipe, recipe=Recipe.parse(DAMPED)):
        with pytest.warns(GuidanceNotice):
            batches = calls_of_the_unet(pipe, lambda: run(pipe, 4, guidance_scale=8.0))
        with dilation_of_each_call(pipe, monkeypatch) as calls:
            changed = run(pipe, 4, guidance_scale=8.0)
    assert (batches, calls) == ([1] * 4, inside(4))
    assert not torch.allclose(changed, plain, rtol=1e-3, atol=1e-3)
    assert torch.equal(run(pipe, 4, guidance_scale=8.0), plain)
