"""Every kind of picture model, through its pipeline's own call: the effect is on, right, and gone after `remove`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import scalecrafter
from scalecrafter import Recipe, RecipeError
from tests.support import tiny_architectures as tiny
from tests.support.reference_in_pipelines import reference_unet, relative_difference

STEPS = 4
CHANGE = 1e-2
TOLERANCE = 1e-9  # relative, in float64: ours and the plain method differ by rounding alone
SIDE = 128
"""Image pixels: twice the native side of the tiny models, ×4 the pixels."""

Call = Callable[[Any], Tensor]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def from_prompt(pipe: Any) -> Tensor:
    output = pipe(
        "a red fox",
        negative_prompt="dull",
        height=SIDE,
        width=SIDE,
        num_inference_steps=STEPS,
        guidance_scale=5.0,
        generator=generator(),
        output_type="latent",
    )
    return output.images


def from_chatglm(pipe: Any) -> Tensor:
    """Kolors: ChatGLM itself stays in float32, since its rotary positions know no wider type."""
    pipe.text_encoder.float()
    embeddings = pipe.encode_prompt("a red fox", negative_prompt="dull", do_classifier_free_guidance=True)
    prompt, negative, pooled, negative_pooled = (each.to(pipe.unet.dtype) for each in embeddings)
    return pipe(
        prompt_embeds=prompt, pooled_prompt_embeds=pooled,
        negative_prompt_embeds=negative, negative_pooled_prompt_embeds=negative_pooled,
        height=SIDE, width=SIDE, num_inference_steps=STEPS, generator=generator(), output_type="latent",
    ).images  # fmt: skip


def from_image_embeddings(pipe: Any) -> Tensor:
    """Kandinsky 2.2 draws at multiples of 64."""
    return pipe(
        tiny.seeded_noise(1, 32, seed=1), tiny.seeded_noise(1, 32, seed=2),
        height=SIDE, width=SIDE, num_inference_steps=STEPS, generator=generator(), output_type="latent",
    ).images  # fmt: skip


def from_text_embeddings(pipe: Any) -> Tensor:
    """Kandinsky 3."""
    mask = torch.ones(1, 8)
    return pipe(
        prompt_embeds=tiny.seeded_noise(1, 8, 16, seed=1), negative_prompt_embeds=tiny.seeded_noise(1, 8, 16, seed=2),
        attention_mask=mask, negative_attention_mask=mask,
        height=SIDE, width=SIDE, num_inference_steps=STEPS, generator=generator(), output_type="latent",
    ).images  # fmt: skip


def in_pixels(pipe: Any) -> Tensor:
    """These pipelines draw what the config's `sample_size` says."""
    own = pipe.unet.config.sample_size
    pipe.unet.register_to_config(sample_size=2 * own)
    try:
        images = pipe(batch_size=2, num_inference_steps=STEPS, generator=generator(), output_type="np").images
        return torch.from_numpy(images)
    finally:
        pipe.unet.register_to_config(sample_size=own)


def from_small_picture(pipe: Any) -> Tensor:
    """The ×4 upscaler, of a picture twice as large as its native 8×8."""
    picture = Image.effect_noise((16, 16), 60).convert("RGB") if not hasattr(pipe, "_start") else pipe._start
    pipe._start = picture
    return pipe(
        "a red fox", image=picture, noise_level=20, num_inference_steps=STEPS, generator=generator(),
        output_type="latent",
    ).images  # fmt: skip


def from_small_latents(pipe: Any) -> Tensor:
    """The latent upscaler doubles latents of 8×8."""
    return pipe(
        "a red fox", image=tiny.seeded_noise(1, 4, 8, 8), num_inference_steps=STEPS, guidance_scale=2.0,
        generator=generator(), output_type="latent",
    ).images  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A model, how its pipeline is called, and what the automatic recipe makes of it."""

    build: Callable[[], Any]
    call: Call
    family: str
    redilated: set[str]
    """Blocks of the automatic recipe at ×4."""
    damps: bool = True
    variance: bool = False
    pixels: int = SIDE


FOUR_LEVELS = {"mid_block", *(f"{way}_blocks.{level}" for way in ("down", "up") for level in range(4))}
THREE_LEVELS = FOUR_LEVELS - {"down_blocks.3", "up_blocks.3"}
TWO_LEVELS = THREE_LEVELS - {"down_blocks.2", "up_blocks.2"}
CELLS = {
    "sd-1": Cell(tiny.sd1, from_prompt, "any", FOUR_LEVELS),
    "sd-2-v-prediction": Cell(tiny.sd2, from_prompt, "any", FOUR_LEVELS),
    "sd-2-base": Cell(tiny.sd2_base, from_prompt, "any", FOUR_LEVELS),
    "bk-sdm-small": Cell(tiny.bk_sdm_small, from_prompt, "any", FOUR_LEVELS - {"mid_block"}),
    "bk-sdm-tiny": Cell(tiny.bk_sdm_tiny, from_prompt, "any", THREE_LEVELS - {"mid_block"}),
    "sdxl": Cell(tiny.sdxl, from_prompt, "sdxl", {"mid_block", "up_blocks.0"}),
    "ssd-1b": Cell(tiny.ssd_1b, from_prompt, "sdxl", {"mid_block", "up_blocks.0"}),
    "segmind-vega": Cell(tiny.segmind_vega, from_prompt, "sdxl", {"mid_block", "up_blocks.0"}),
    "koala-700m": Cell(tiny.koala_700m, from_prompt, "sdxl", {"up_blocks.0"}),
    "kolors": Cell(tiny.kolors, from_chatglm, "sdxl", {"mid_block", "up_blocks.0"}),
    "kandinsky-2.2": Cell(tiny.kandinsky22, from_image_embeddings, "any", TWO_LEVELS, variance=True),
    "kandinsky-3": Cell(tiny.kandinsky3, from_text_embeddings, "any", FOUR_LEVELS - {"mid_block"}),
    "ddpm": Cell(tiny.ddpm, in_pixels, "any", THREE_LEVELS, damps=False, pixels=16),
    "ddim-in-pixels": Cell(tiny.ddim_in_pixels, in_pixels, "any", THREE_LEVELS, damps=False, pixels=16),
    "x4-upscaler": Cell(tiny.x4_upscaler, from_small_picture, "any", FOUR_LEVELS, pixels=64),
    "latent-upscaler": Cell(tiny.latent_upscaler, from_small_latents, "any", FOUR_LEVELS - {"mid_block"}),
}  # fmt: skip


def in_float64(pipe: Any) -> Any:
    return pipe.to(torch.float64)


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize("name", CELLS)
def test_effect_is_on_right_and_gone_after_remove(name: str) -> None:
    cell = CELLS[name]
    pipe = in_float64(cell.build())
    plan = scalecrafter.plan(pipe, cell.pixels, cell.pixels, STEPS)
    assert plan.architecture.family == cell.family
    assert {block(layer) for layer in plan.factors(0)} == cell.redilated
    assert f"{cell.pixels}×{cell.pixels} pixels, {STEPS} steps" in str(plan)
    before = cell.call(pipe)
    recipe = plan.recipe
    assert recipe is not None
    with reference_unet(pipe, tomllib.loads(recipe.to_toml()), guided=False):
        expected = cell.call(pipe)
    keys, states = list(pipe.unet.state_dict()), {n: dict(m.__dict__) for n, m in pipe.unet.named_modules()}

    scalecrafter.apply(pipe)
    ours = cell.call(pipe)
    assert relative_difference(ours, before) > CHANGE
    assert relative_difference(ours, expected) < TOLERANCE

    damped = with_noise_damping(recipe)
    if cell.damps:
        scalecrafter.apply(pipe, recipe=damped)
        ours = cell.call(pipe)
        scalecrafter.remove(pipe)
        with reference_unet(pipe, tomllib.loads(damped.to_toml()), guided=True, variance=cell.variance):
            assert relative_difference(ours, cell.call(pipe)) < TOLERANCE
        with reference_unet(pipe, tomllib.loads(damped.to_toml()), guided=False):
            assert relative_difference(ours, cell.call(pipe)) > CHANGE
    else:
        with pytest.raises(RecipeError, match=f"{type(pipe).__name__} is unconditional"):
            scalecrafter.apply(pipe, recipe=damped)
        scalecrafter.remove(pipe)

    assert torch.equal(cell.call(pipe), before)
    assert list(pipe.unet.state_dict()) == keys
    assert {n: list(m.__dict__) for n, m in pipe.unet.named_modules()} == {n: list(s) for n, s in states.items()}


def block(layer: str) -> str:
    parts = layer.split(".")
    return parts[0] if parts[0] == "mid_block" else ".".join(parts[:2])


def with_noise_damping(recipe: Recipe) -> Recipe:
    """The recipe, half of its blocks damped too, with another factor; acting half of the way."""
    assert recipe.redilation is not None
    layers = dict.fromkeys(list(recipe.redilation.layers)[::2], 1.5)
    data = recipe.model_dump() | {"noise_damping": {"until": 0.6, "layers": layers}}
    return Recipe.from_mapping(data)


def test_a_batch_of_two_that_is_no_guided_pair_is_not_damped() -> None:
    """ConsistencyModelPipeline tells nobody whether it guides: it does not, and its two samples differ."""
    pipe = in_float64(tiny.consistency())
    plain = Recipe.parse('[redilation]\nuntil = 1\nlayers = { "mid_block" = 2, "down_blocks.2" = 2 }')
    damped = Recipe.parse(plain.to_toml() + "[noise_damping]\nuntil = 1\nlayers = {}")

    def call() -> Tensor:
        images = pipe(batch_size=2, class_labels=[1, 2], num_inference_steps=1, generator=generator(), output_type="np")
        return torch.from_numpy(images.images)

    before = call()
    with scalecrafter.applied(pipe, recipe=plain):
        expected = call()
    with scalecrafter.applied(pipe, recipe=damped):
        assert torch.equal(call(), expected)
    assert relative_difference(expected, before) > CHANGE
    assert torch.equal(call(), before)


def test_a_pixel_space_model_is_larger_than_native_where_its_config_says_so_after_apply() -> None:
    pipe = tiny.ddpm()
    scalecrafter.apply(pipe)
    pipe.unet.register_to_config(sample_size=2 * tiny.NATIVE)
    plan = scalecrafter.plan(pipe, 2 * tiny.NATIVE, 2 * tiny.NATIVE)
    assert (plan.architecture.native_height, plan.architecture.pixel_factor) == (tiny.NATIVE, 1)
    factors = {"upsamplers" in name: factors for name, factors in plan.factors(0).items()}
    assert factors == {False: (2.0, 2.0), True: (1.0, 1.0)}
    assert len(set(plan.factors(0).values())) == 2


def test_a_downsampler_with_padding_at_two_edges_only_is_dilated_around_its_own_centre() -> None:
    """As the published DDPM models have it (`downsample_padding` 0); by hand, tap by tap."""
    unet = tiny.pixel_unet(downsample_padding=0).double()
    sampler = unet.down_blocks[0].downsamplers[0]
    features = tiny.seeded_noise(1, 16, 12, 12)
    recipe = Recipe.parse('[redilation]\nuntil = 1\nlayers = { "down_blocks.0.downsamplers" = 2 }')
    seen: list[Tensor] = []
    handle = sampler.conv.register_forward_hook(lambda _module, _args, output: seen.append(output))
    with scalecrafter.applied(unet, recipe=recipe), torch.no_grad():
        unet(tiny.seeded_noise(1, 3, 12, 12), 999)
        sampler(features)
    handle.remove()
    padded = torch.zeros(1, 16, 18, 18, dtype=torch.float64)
    padded[:, :, 2:14, 2:14] = features
    expected = sampler.conv.bias.view(1, -1, 1, 1).expand(1, 16, 6, 6).clone()
    for row in range(3):
        for column in range(3):
            # undilated, the taps of output i lie on inputs 2i, 2i+1, 2i+2; dilated on 2i−1, 2i+1, 2i+3
            tap = padded[:, :, 1 + 2 * row : 12 + 2 * row : 2, 1 + 2 * column : 12 + 2 * column : 2]
            expected += torch.einsum("oi,bihw->bohw", sampler.conv.weight[:, :, row, column], tap)
    assert relative_difference(seen[-1], expected) < TOLERANCE


@pytest.mark.parametrize(
    ("config", "native"),
    [
        ({"sample_size": 96, "num_frames": 25}, (72, 128)),
        ({"sample_size": 96}, (96, 96)),
        ({"sample_size": [40, 64]}, (40, 64)),
        ({"time_embedding_dim": 1536}, (128, 128)),
        ({"sample_size": None}, (64, 64)),
    ],
)
def test_thenative_grid_is_read_from_the_config(config: dict[str, Any], native: tuple[int, int]) -> None:
    from scalecrafter.unet.architecture import native_grid

    assert native_grid(config) == native


def test_a_movq_is_left_alone_or_refused_by_name() -> None:
    """Its blocks are others, which the exact tiles do not know."""
    pipe = tiny.kandinsky22()
    latents = tiny.seeded_noise(1, 4, 16, 16).float()
    with torch.no_grad():
        before = pipe.movq.decode(latents, force_not_quantize=True).sample
        with scalecrafter.applied(pipe):
            assert torch.equal(pipe.movq.decode(latents, force_not_quantize=True).sample, before)
    with pytest.raises(scalecrafter.ModelError, match=r"AttnDownEncoderBlock2D.*exact tiling"):
        scalecrafter.apply(pipe, vae_memory="1GiB")
    with pytest.raises(scalecrafter.ModelError, match="DDPMPipeline has no VAE"):
        scalecrafter.apply(tiny.ddpm(), vae_memory="1GiB")
