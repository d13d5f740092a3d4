"""The methods of several passes against slow references of their loops, and the sizes that they go through."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from scalecrafter import RecipeError
from scalecrafter._util.sizes import GridSize
from scalecrafter.generation.generate import generate
from scalecrafter.methods.cascade import CascadeSettings
from scalecrafter.methods.steps.stages import native_size, stage_sizes
from scalecrafter.recipes.automatic import deep_recipe
from scalecrafter.request.request import Request
from scalecrafter.unet.architecture import read_architecture
from tests.support.reference_sampling import (
    PROMPT,
    Predict,
    decoded,
    denoised,
    encoded,
    largest_difference,
    noised,
    plain,
    table,
)
from tests.support.tiny_models import sd15_unet_meta, sdxl_unet_meta, tiny_sd_pipeline, tiny_vae

pytestmark = pytest.mark.sampled

GUIDANCE = 5.0


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_sd_pipeline()


def ask(method: str, size: tuple[int, int], steps: int, **values: Any) -> Request:
    width, height = size
    return Request.from_mapping(
        {
            "prompt": PROMPT,
            "method": method,
            "seed": 8,
            "guidance": GUIDANCE,
            "steps": steps,
            "width": width,
            "height": height,
        }
        | values
    )


def start(size: tuple[int, int], channels: int = 4) -> tuple[Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(8)
    return torch.randn((1, channels, size[1] // 8, size[0] // 8), generator=generator), generator


@torch.no_grad()
def test_upscale_is_pil_on_the_native_picture(pipe: Any) -> None:
    small = generate(pipe, ask("direct", (96 + 32, 128), 3))
    large = generate(pipe, ask("upscale", (384, 384), 3))
    assert large.image.tobytes() == small.image.resize((384, 384), Image.Resampling.LANCZOS).tobytes()


@pytest.fixture(scope="module")
def pipe_of_six_channels() -> Any:
    pipe = tiny_sd_pipeline(in_channels=6, out_channels=6)
    pipe.vae = tiny_vae(1, latent_channels=6)
    return pipe


@pytest.mark.parametrize(
    ("size", "native", "channels"),
    [((256, 256), (128, 128), 4), ((192, 384), (64, 128), 4), ((256, 256), (128, 128), 6)],
)
@torch.no_grad()
def test_hires_fix_is_the_loop_written_plainly(
    pipe: Any, pipe_of_six_channels: Any, size: tuple[int, int], native: tuple[int, int], channels: int
) -> None:
    """Whose latents diffusers takes for a picture, if they have other than four channels."""
    pipe = pipe if channels == 4 else pipe_of_six_channels
    steps, first = 5, 2  # int(5 · 0.6) = 3 steps are left to run
    latents, generator = start(native, channels)
    latents = denoised(pipe, latents, steps, GUIDANCE)
    latents = F.interpolate(latents, (size[1] // 8, size[0] // 8), mode="bilinear", align_corners=False)
    noise = torch.randn(latents.shape, generator=generator)
    latents = noised(pipe, latents, noise, table(pipe, steps)[first])
    expected = decoded(pipe, denoised(pipe, latents, steps, GUIDANCE, first))
    assert largest_difference(generate(pipe, ask("hires-fix", size, steps)).image, expected) <= 1


def dilated(pipe: Any, steps: int, until: float, factors: tuple[int, int]) -> Predict:
    """The U-Net with the two deepest levels and the middle dilated at the steps before `until`, set by hand."""
    deep = ("down_blocks.2.", "down_blocks.3.", "mid_block.", "up_blocks.0.", "up_blocks.1.")
    convolutions = [
        module
        for name, module in pipe.unet.named_modules()
        if name.startswith(deep) and isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3)
    ]

    def predict(latents: Tensor, index: int, text: Tensor) -> Tensor:
        now = factors if index / steps < until else (1, 1)
        for convolution in convolutions:
            convolution.dilation = convolution.padding = now
        try:
            return plain(pipe, steps)(latents, index, text)
        finally:
            for convolution in convolutions:
                convolution.dilation = convolution.padding = (1, 1)

    return predict


@pytest.fixture(scope="module")
def native_64() -> Any:
    """The same, with a native size of 64×64 image pixels."""
    return tiny_sd_pipeline(sample_size=8, layers_per_block=1)


@pytest.mark.parametrize("upsample", ["pixels", "latents"])
@pytest.mark.parametrize("until", [1.0, 0.8])
@torch.no_grad()
def test_a_cascade_is_the_loop_written_plainly(native_64: Any, upsample: str, until: float) -> None:
    pipe, steps, guidances = native_64, 5, (3.0, 2.0)
    latents, generator = start((64, 64))
    latents = denoised(pipe, latents, steps, GUIDANCE)
    for stage, (side, first) in enumerate([(128, 2), (256, 3)]):  # int(5 · 0.6) and int(5 · 0.4) are left to run
        if upsample == "pixels":
            picture = decoded(pipe, latents).resize((side, side), Image.Resampling.LANCZOS)
            latents = encoded(pipe, picture, generator)
        else:
            latents = F.interpolate(latents, (side // 8, side // 8), mode="bilinear", align_corners=False)
        noise = torch.randn(latents.shape, generator=generator)
        latents = noised(pipe, latents, noise, table(pipe, steps)[first])
        predict = dilated(pipe, steps, until, (side // 64, side // 64))
        latents = denoised(pipe, latents, steps, guidances[stage], first, predict)
    settings = CascadeSettings(restart=(0.6, 0.4), guidance=guidances, upsample=upsample, levels=2, until=until)  # type: ignore[arg-type]
    ours = generate(pipe, ask("cascade", (256, 256), steps, cascade=settings.model_dump())).image
    assert largest_difference(ours, decoded(pipe, latents)) <= 1


def test_a_cascades_recipe_is_the_requests_where_it_names_one(pipe: Any) -> None:
    recipe = '[redilation]\nuntil = 1.0\nlayers = { "mid_block" = 3 }\n'
    made = {r: generate(pipe, ask("cascade", (256, 256), 4, recipe=r)).image.tobytes() for r in (None, "none", recipe)}
    assert len(set(made.values())) == 3


def test_a_stage_is_guided_only_where_it_is_told_to_be_or_follows_a_recipe_of_the_requests(pipe: Any) -> None:
    def picture(recipe: str | None, guidance: float | None) -> bytes:
        cascade = {} if guidance is None else {"guidance": guidance}
        return generate(pipe, ask("cascade", (256, 256), 4, recipe=recipe, cascade=cascade)).image.tobytes()

    assert picture(None, None) == picture(None, 1) != picture(None, GUIDANCE)
    assert picture("none", None) == picture("none", GUIDANCE) != picture("none", 1)
    damped = '[redilation]\nuntil = 1.0\nlayers = { "mid_block" = 3 }\n[noise_damping]\nuntil = 1.0\n'
    assert picture(damped, None) == picture(damped, GUIDANCE)


def test_a_stage_runs_at_least_one_step(pipe: Any) -> None:
    told: list[tuple[int, int]] = []
    picture = generate(pipe, ask("cascade", (512, 512), 4), lambda done, steps: told.append((done, steps))).image
    assert told[-1] == (6, 6)  # 4 at the native size, and one in each of two stages
    quarter = ask("cascade", (512, 512), 4, cascade={"restart": 0.25})
    assert picture.tobytes() == generate(pipe, quarter).image.tobytes()


def test_the_strength_of_a_cascade_is_its_restart(pipe: Any) -> None:
    by_strength = generate(pipe, ask("cascade", (256, 256), 4, strength=0.75)).image
    by_setting = generate(pipe, ask("cascade", (256, 256), 4, cascade={"restart": 0.75})).image
    assert by_strength.tobytes() == by_setting.tobytes()


# Recipes of a stage


def test_a_stage_dilates_the_deepest_levels_by_the_root_of_the_ratio_of_the_areas() -> None:
    sd15, sdxl = read_architecture(sd15_unet_meta()), read_architecture(sdxl_unet_meta())
    recipe = deep_recipe(sd15, GridSize(224, 128), levels=2, until=0.9)
    assert recipe is not None
    assert recipe.redilation is not None
    assert recipe.redilation.until == 0.9
    assert recipe.redilation.layers == dict.fromkeys(
        ("down_blocks.2", "down_blocks.3", "mid_block", "up_blocks.0", "up_blocks.1"), (2.646, 2.646)
    )
    usual = deep_recipe(sd15, GridSize(128, 128), levels=None, until=1.0)
    assert usual is not None
    assert usual.redilation is not None
    assert set(usual.redilation.layers) == {
        *("down_blocks.1", "down_blocks.2", "down_blocks.3", "mid_block", "up_blocks.0", "up_blocks.1", "up_blocks.2")
    }
    flat = deep_recipe(sdxl, GridSize(128, 256), levels=1, until=1.0)
    assert flat is not None
    assert flat.redilation is not None
    assert flat.redilation.layers == dict.fromkeys(("down_blocks.2", "mid_block", "up_blocks.0"), (1.414, 1.414))
    assert deep_recipe(sd15, GridSize(64, 64), levels=2, until=1.0) is None
    assert deep_recipe(sd15, GridSize(40, 96), levels=2, until=1.0) is None  # of the native area
    with pytest.raises(RecipeError, match="this U-Net has 3"):
        deep_recipe(sdxl, GridSize(256, 256), levels=4, until=1.0)


# Sizes


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1024, 1024), (512, 512)),
        ((2048, 1024), (768, 384)),
        ((1024, 2048), (384, 768)),
        ((768, 1280), (384, 640)),
        ((1280, 1280), (512, 512)),
        ((512, 512), (512, 512)),
        ((640, 320), (640, 320)),
    ],
)
def test_the_native_size_has_the_targets_shape_and_the_native_area(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert native_size(read_architecture(sd15_unet_meta()), size) == expected


def test_native_sizes_are_good_and_near_in_shape_and_area() -> None:
    architecture = read_architecture(sd15_unet_meta())
    for width, height in itertools.product(range(512, 2049, 192), repeat=2):
        across, down = native_size(architecture, (width, height))
        architecture.check_size(height=down, width=across)
        assert across <= width
        assert down <= height
        assert abs(math.log2(across * down / 512**2)) <= 0.6
        assert abs(math.log2(across / down / (width / height))) <= 0.4


def test_stages_grow_by_at_most_twice_the_side_and_are_as_few_as_can_be() -> None:
    multiple = 64
    for first, last in itertools.product(
        itertools.product(range(64, 321, 64), repeat=2), itertools.product(range(64, 1025, 64), repeat=2)
    ):
        if first[0] > last[0] or first[1] > last[1]:
            continue
        sizes = stage_sizes(first, last, multiple)
        ratio = max(last[0] / first[0], last[1] / first[1])
        assert len(sizes) == math.ceil(math.log2(ratio) - 1e-9)
        assert not sizes or sizes[-1] == last
        for before, after in itertools.pairwise([first, *sizes]):
            assert all(b <= a <= 2 * b and a % multiple == 0 for b, a in zip(before, after, strict=True))
    assert stage_sizes((256, 256), (1024, 1024), 64) == [(512, 512), (1024, 1024)]
    assert stage_sizes((256, 256), (640, 640), 64) == [(448, 448), (640, 640)]
    assert stage_sizes((256, 256), (256, 256), 64) == []


def test_a_cascades_settings_are_one_for_all_stages_or_one_for_each() -> None:
    one, each = CascadeSettings(restart=0.4), CascadeSettings(restart=[0.6, 0.4], guidance=[5, 3, 2])  # type: ignore[arg-type]
    assert [one.restart_of(stage) for stage in range(3)] == [0.4, 0.4, 0.4]
    assert [each.restart_of(stage) for stage in range(3)] == [0.6, 0.4, 0.4]
    assert [one.guidance_of(0), each.guidance_of(1), each.guidance_of(5)] == [None, 3, 2]
    assert CascadeSettings.model_validate(each.model_dump(mode="json")) == each
