"""Other authors' parts of a cascade, and how guidance acts, against slow references of their loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageChops
from torch import Tensor

from scalecrafter import ModelError, RecipeError
from scalecrafter._util.sizes import GridSize
from scalecrafter.errors import ScaleCrafterError
from scalecrafter.generation.generate import generate
from scalecrafter.methods.cascade import stage_recipe
from scalecrafter.methods.cascade_settings import CascadeSettings
from scalecrafter.ops.scale_fusion import cosine_weight, low_pass, overlapping_windows
from scalecrafter.patching.apply import applied
from scalecrafter.patching.guidance import steered_guidance
from scalecrafter.patching.scale_fusion import scale_fused_attention
from scalecrafter.recipes.automatic import deep_recipe
from scalecrafter.recipes.recipe import Recipe
from scalecrafter.recipes.resolution import resolve
from scalecrafter.request.request import Request, RequestError
from scalecrafter.unet.architecture import read_architecture
from tests.support.reference_sampling import (
    PROMPT,
    ddim_step,
    decoded,
    denoised,
    embeddings,
    encoded,
    guided,
    largest_difference,
    noised,
    plain,
    table,
)
from tests.support.tiny_models import sdxl_unet_meta, tiny_sd_pipeline

GUIDANCE = 5.0


@pytest.fixture(scope="module")
def pipe() -> Any:
    """Native size 64×64 image pixels."""
    return tiny_sd_pipeline(sample_size=8, layers_per_block=1)


def ask(side: int, steps: int, method: str = "cascade", **settings: Any) -> Request:
    values = {"prompt": PROMPT, "method": method, "seed": 8, "guidance": GUIDANCE, "steps": steps}
    return Request.from_mapping(values | {"width": side, "height": side, "recipe": "none"} | settings)


def start(side: int = 64) -> tuple[Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(8)
    return torch.randn((1, 4, side // 8, side // 8), generator=generator), generator


# Latents mixed over the steps


@torch.no_grad()
def test_mixing_is_the_loop_written_plainly(pipe: Any) -> None:
    steps, first, power = 5, 1, 2.0
    latents, generator = start()
    latents = denoised(pipe, latents, steps, GUIDANCE)
    picture = decoded(pipe, latents).resize((128, 128), Image.Resampling.LANCZOS)
    clean = encoded(pipe, picture, generator)
    noise = torch.randn(clean.shape, generator=generator)
    timesteps, train = table(pipe, steps), pipe.scheduler.config.num_train_timesteps
    latents = noised(pipe, clean, noise, timesteps[first])
    for index in range(first, steps):
        share = (0.5 * (1 + math.cos(math.pi * (train - timesteps[index]) / train))) ** power
        latents = latents * (1 - share) + noised(pipe, clean, noise, timesteps[index]) * share
        latents = ddim_step(pipe, guided(pipe, plain(pipe, steps), latents, index, GUIDANCE), latents, index, steps)
    ours = generate(pipe, ask(128, steps, cascade={"restart": 0.8, "mixing": power})).image
    assert largest_difference(ours, decoded(pipe, latents)) <= 1
    assert largest_difference(ours, generate(pipe, ask(128, steps, cascade={"restart": 0.8})).image) > 1


@pytest.mark.sampled
@pytest.mark.parametrize("scheduler", ["euler", "euler-a", "dpm++", "heun", "pndm", "unipc"])
def test_a_weight_of_nothing_is_a_stage_without_mixing_with_every_scheduler(pipe: Any, scheduler: str) -> None:
    """A large power leaves the start alone: 0 is mixed in after the first step."""
    plainly, mixed = (
        generate(pipe, ask(128, 4, scheduler=scheduler, cascade={"restart": 0.5, "mixing": mixing})).image
        for mixing in (None, 100.0)
    )
    assert largest_difference(plainly, mixed) <= 1


def test_the_cosine_weight_falls_from_one_to_nothing() -> None:
    assert cosine_weight(1000, 1000, 2.0) == 1
    assert cosine_weight(500, 1000, 1.0) == pytest.approx(0.5)
    assert cosine_weight(500, 1000, 3.0) == pytest.approx(0.125)
    assert cosine_weight(0, 1000, 1.0) == pytest.approx(0)


# A picture handed over before its end


@pytest.mark.parametrize(
    ("ends", "restart", "differing"),
    [((3, 6), (0.5,), 0.0), ((3, 5, 6), (0.5, 0.17), 0.05)],  # what one 8-bit rounding moves, a second stage enlarges
)
@torch.no_grad()
def test_refresh_is_the_loop_written_plainly(
    pipe: Any, ends: tuple[int, ...], restart: tuple[float, ...], differing: float
) -> None:
    steps, guidances, begin, side = 6, (GUIDANCE, 3.0, 2.0), 0, 64
    latents, generator = start()
    for stage, end in enumerate(ends):
        for index in range(begin, end):
            before = latents
            prediction = guided(pipe, plain(pipe, steps), latents, index, guidances[stage])
            latents = ddim_step(pipe, prediction, latents, index, steps)
        if end < steps:
            begin, side = end, 2 * side
            kept = float(pipe.scheduler.alphas_cumprod[table(pipe, steps)[end - 1]])
            clean = (before - math.sqrt(1 - kept) * prediction) / math.sqrt(kept)
            picture = decoded(pipe, clean).resize((side, side), Image.Resampling.LANCZOS)
            clean = encoded(pipe, picture, generator)
            noise = torch.randn(clean.shape, generator=generator)
            latents = noised(pipe, clean, noise, table(pipe, steps)[end])
    told: list[tuple[int, int]] = []
    settings = {"restart": restart, "guidance": guidances[1:], "refresh": True}
    ours = generate(pipe, ask(side, steps, cascade=settings), lambda done, all_: told.append((done, all_))).image
    difference = ImageChops.difference(ours, decoded(pipe, latents)).convert("L").histogram()
    assert sum(difference[2:]) <= differing * side**2
    assert told == [(step, 6) for step in range(1, 7)]
    assert "step" not in pipe.scheduler.__dict__


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"scheduler": "dpm++"}, "take ddim or euler"),
        ({"cascade": {"refresh": True, "restart": [0.5, 0.5]}}, "let them fall from stage to stage"),
        ({"cascade": {"refresh": True, "restart": [1.0, 0.5]}}, "let them fall from stage to stage"),
    ],
)
def test_a_refresh_that_cannot_be_is_refused(pipe: Any, values: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        generate(pipe, ask(256, 6, **({"cascade": {"refresh": True, "restart": [0.5, 0.17]}} | values)))
    assert not {"step", "add_noise"} & set(pipe.scheduler.__dict__)


# Attention joined by frequency


def written_plainly(
    attend: Callable[[Tensor], Tensor], tokens: Tensor, side: int, window: int, draw: Callable[[int, int], int]
) -> Tensor:
    """Of a square grid twice its native side, one sample, with windows of half of the grid."""
    reach, channels = window // 8, tokens.shape[-1]
    grid = tokens.reshape(side, side, channels)
    padded = torch.zeros(side + 2 * reach, side + 2 * reach, channels)
    padded[reach : reach + side, reach : reach + side] = grid
    total, count = torch.zeros_like(padded), torch.zeros(*padded.shape[:2], 1)
    for top, left in itertools.product((0, window // 2, window), repeat=2):
        shifts = []
        for place in (left, top):
            low = 0 if place == window else -reach  # windows at an edge are shifted outwards
            high = 0 if place == 0 else reach
            shifts.append(draw(low, high))
        row, column = top + shifts[1] + reach, left + shifts[0] + reach
        part = padded[row : row + window, column : column + window].reshape(1, -1, channels)
        total[row : row + window, column : column + window] += attend(part).reshape(window, window, channels)
        count[row : row + window, column : column + window] += 1
    inside = slice(reach, reach + side)
    windowed = (total / count.clamp(min=1))[inside, inside]
    whole = attend(tokens).reshape(side, side, channels)
    taps = torch.exp(-torch.tensor([1.0, 0.0, 1.0]) / 2)
    taps = taps / taps.sum()

    def low(features: Tensor) -> Tensor:
        kernel = taps[:, None, None] * taps[None, :, None] * taps[None, None, :]
        return F.conv3d(features[None, None], kernel[None, None], padding=1)[0, 0]

    return (low(windowed) + whole - low(whole)).reshape(1, -1, channels)


def alternating() -> Callable[[int, int], int]:
    """Draws that reach both ends."""
    turns = itertools.cycle([0, 1])
    return lambda low, high: high if next(turns) else low


@torch.no_grad()
def test_fused_attention_is_the_loop_written_plainly() -> None:
    pipe = tiny_sd_pipeline(sample_size=16, layers_per_block=1)
    unet = pipe.unet
    layer = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    seen: list[tuple[Tensor, Tensor]] = []
    latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    with scale_fused_attention(pipe, GridSize(16, 16), alternating()):
        handle = layer.register_forward_hook(lambda _m, args, output: seen.append((args[0], output)))
        fused = unet(latents, 500, embeddings(pipe)[:1]).sample
        handle.remove()
    tokens, found = seen[0]
    torch.testing.assert_close(found, written_plainly(layer, tokens, 32, 16, alternating()))
    whole = unet(latents, 500, embeddings(pipe)[:1]).sample
    assert not torch.allclose(fused, whole)
    assert all(not module._forward_hooks for module in unet.modules())


@pytest.mark.slow
@torch.no_grad()
def test_fused_attention_is_the_same_each_time_and_leaves_the_native_size_alone(pipe: Any) -> None:
    settings = {"restart": 0.5, "attention": "fused"}
    one, two = (generate(pipe, ask(192, 4, cascade=settings)).image.tobytes() for _ in range(2))
    assert one == two
    assert one != generate(pipe, ask(192, 4, cascade={"restart": 0.5})).image.tobytes()
    latents, text = start()[0], embeddings(pipe)[:1]
    plainly = pipe.unet(latents, 500, text).sample
    with scale_fused_attention(pipe, GridSize(8, 8)):
        assert torch.equal(pipe.unet(latents, 500, text).sample, plainly)


@torch.no_grad()
def test_fused_attention_under_a_recipe_is_the_same_for_a_guided_pair_as_for_its_halves(pipe: Any) -> None:
    """`apply` lets the first self-attention see one half of a guided pair alone."""
    latents, text = start(128)[0], embeddings(pipe)
    recipe = Recipe.parse('[redilation]\nuntil = 1.0\nlayers = { "mid_block" = 2 }\n', "here")

    def predicted(sample: Tensor, of: Tensor) -> Tensor:
        with applied(pipe, recipe=recipe), scale_fused_attention(pipe, GridSize(8, 8), alternating()):
            found: Tensor = pipe.unet(sample, 500, of).sample
        return found

    pair = predicted(torch.cat([latents, latents]), text)
    torch.testing.assert_close(pair, torch.cat([predicted(latents, one[None]) for one in text]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("grid", "window"), [((24, 12), (8, 6)), ((13, 9), (8, 9)), ((40, 40), (16, 16)), ((5, 7), (1, 1))]
)
def test_windows_cover_the_grid_and_lie_within_its_margin(grid: tuple[int, int], window: tuple[int, int]) -> None:
    for draw in (lambda low, _: low, lambda _, high: high, lambda low, high: (low + high) // 2):
        places, margin = overlapping_windows(GridSize(*grid), GridSize(*window), draw)
        covered = torch.zeros(grid[0] + 2 * margin.height, grid[1] + 2 * margin.width)
        for rows, columns in places:
            assert (rows.stop - rows.start, columns.stop - columns.start) == window
            assert 0 <= rows.start < rows.stop <= covered.shape[0]
            assert 0 <= columns.start < columns.stop <= covered.shape[1]
            covered[rows, columns] += 1
    inside = covered[margin.height : margin.height + grid[0], margin.width : margin.width + grid[1]]
    assert inside.min() >= 1


def test_a_low_pass_of_one_tap_is_nothing() -> None:
    features = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(low_pass(features, 1), features)


# What is dilated


def test_dilation_on_the_way_down_is_that_of_freescale() -> None:
    """The convolutions that its pipeline lists for SDXL, by a factor of the size."""
    architecture = read_architecture(sdxl_unet_meta())
    recipe = deep_recipe(architecture, GridSize(256, 256), 1, 0.7, up=False)
    assert recipe is not None
    resolved = resolve(recipe, architecture)
    block = [f"resnets.{number}.conv{which}" for number in range(2) for which in (1, 2)]
    expected = {
        "down_blocks.1.downsamplers.0.conv",
        *(f"{at}.{one}" for at in ("down_blocks.2", "mid_block") for one in block),
    }
    for place, factors in (
        (Fraction(0), dict.fromkeys(expected, (2.0, 2.0))),
        (Fraction(34, 50), dict.fromkeys(expected, (2.0, 2.0))),
        (Fraction(35, 50), {}),
    ):
        assert dict(resolved.structure(place).factors) == factors


def test_nothing_dilated_is_no_recipe_unless_the_request_names_one() -> None:
    architecture = read_architecture(sdxl_unet_meta())
    settings = CascadeSettings(dilated="none")
    asked = Request(prompt="a fox", method="cascade", width=2048, height=2048)
    from scalecrafter._util.sizes import ImageSize

    assert stage_recipe(asked, settings, architecture, ImageSize(2048, 2048)) is None
    named = asked.changed(recipe="sdxl-2048x2048")
    assert stage_recipe(named, settings, architecture, ImageSize(2048, 2048)) is not None


# Guidance


@torch.no_grad()
@pytest.mark.parametrize("method", ["scalecrafter", "cascade"])
def test_outside_of_its_interval_guidance_costs_and_does_nothing(pipe: Any, method: str) -> None:
    steps = 5
    latents, _ = start()
    for index in range(steps):
        scale = GUIDANCE if 0.2 <= index / steps < 0.6 else 1.0
        latents = ddim_step(pipe, guided(pipe, plain(pipe, steps), latents, index, scale), latents, index, steps)
    batches: list[int] = []
    handle = pipe.unet.conv_in.register_forward_hook(lambda _m, args, _o: batches.append(len(args[0])))
    settings = {method: {"guidance_interval": [0.2, 0.6]}, "recipe": None}
    ours = generate(pipe, ask(64, steps, method, **settings)).image
    handle.remove()
    assert largest_difference(ours, decoded(pipe, latents)) <= 1
    assert batches == [1, 2, 2, 1, 1]


def test_rescaled_guidance_is_that_of_diffusers(pipe: Any) -> None:
    latents = start()[0]
    call = {
        "prompt": PROMPT, "num_inference_steps": 3, "guidance_scale": 9.0, "latents": latents, "height": 64,
        "width": 64, "output_type": "latent",
    }  # fmt: skip
    theirs = pipe(**call, guidance_rescale=0.7).images
    with steered_guidance(pipe, rescale=0.7):
        ours = pipe(**call).images
    plain = pipe(**call).images
    assert (ours - theirs).abs().max() < 1e-4 < (plain - theirs).abs().max()
    assert not pipe.unet._forward_hooks


def test_a_guidance_interval_acts_with_a_recipe_and_not_with_noise_damping(pipe: Any) -> None:
    recipe = '[redilation]\nuntil = 1.0\nlayers = { "mid_block" = 2 }\n'
    steered = {"scalecrafter": {"guidance_interval": [0.25, 1.0]}}
    made = [generate(pipe, ask(128, 4, "scalecrafter", recipe=recipe, **more)).image for more in ({}, steered)]
    assert largest_difference(*made) > 1
    damped = recipe + "[noise_damping]\nuntil = 1.0\n"
    with pytest.raises(RecipeError, match="noise damping and a guidance interval"):
        generate(pipe, ask(128, 4, "scalecrafter", recipe=damped, **steered))
    assert not pipe.unet._forward_pre_hooks


def test_a_batch_that_is_no_pair_is_refused(pipe: Any) -> None:
    pipe(PROMPT, num_inference_steps=1, guidance_scale=3.0, height=64, width=64, output_type="latent")
    with steered_guidance(pipe, (0.5, 1.0)), pytest.raises(ModelError, match="does not guide in pairs"):
        pipe.unet(torch.randn(2, 4, 8, 8), 500, embeddings(pipe))


# Settings


@pytest.mark.parametrize(
    ("method", "settings", "told"),
    [
        ("cascade", {"guidance_interval": [0.5, 0.5]}, "ends where it begins"),
        ("scalecrafter", {"guidance_interval": [0.9, 0.1]}, "ends where it begins"),
        ("cascade", {"refresh": True, "mixing": 1.0}, "without mixing"),
        ("cascade", {"refresh": True, "upsample": "latents"}, "enlarged pixels"),
        ("cascade", {"dilated": "none", "levels": 2}, "no effect where nothing is dilated"),
        ("cascade", {"dilated": "down", "levels": 0}, "levels 0"),
        ("cascade", {"mixing": 0}, "mixing"),
    ],
)
def test_settings_that_mean_nothing_are_refused(method: str, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        Request.from_mapping({"prompt": "a fox", "method": method, method: settings})


@pytest.mark.parametrize("method", ["cascade", "scalecrafter"])
def test_settings_of_guidance_need_guidance(method: str) -> None:
    values = {"prompt": "a fox", "method": method, method: {"guidance_rescale": 0.5}, "guidance": 1.0}
    with pytest.raises(RequestError, match="guidance_rescale has no effect at a guidance of 1"):
        Request.from_mapping(values)


def test_presets_are_other_names_of_the_cascade_and_may_be_changed() -> None:
    for name, refresh in (("freescale", False), ("rectifiedhr", True), ("rectifiedhr-4096", True)):
        request = Request.from_mapping({"prompt": "a fox", "method": name})
        assert request.method == "cascade"
        assert isinstance(request.settings, CascadeSettings)
        assert request.settings.refresh is refresh
        assert Request.model_validate_json(request.model_dump_json()) == request
    gentle = Request.from_mapping({"prompt": "a fox", "method": "freescale", "cascade": {"mixing": 1.0}})
    assert isinstance(gentle.settings, CascadeSettings)
    assert (gentle.settings.mixing, gentle.settings.attention) == (1.0, "fused")


@torch.no_grad()
def test_presets_make_pictures(pipe: Any) -> None:
    made = {
        name: generate(pipe, ask(128, 10, name, recipe=None)).image.tobytes() for name in ("freescale", "rectifiedhr")
    }
    assert len(set(made.values())) == 2


def test_what_is_on_the_model_is_taken_off_when_a_stage_fails(pipe: Any) -> None:
    def stop(done: int, _all: int) -> None:
        if done == 7:
            raise ScaleCrafterError("stopped")

    with pytest.raises(ScaleCrafterError, match="stopped"):
        generate(pipe, ask(128, 6, "freescale", recipe=None), stop)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipe.unet.modules())
    with applied(pipe):
        pass
