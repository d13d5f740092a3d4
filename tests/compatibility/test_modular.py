"""Modular pipelines: `apply` as ever, and noise damping through a guider, equal to what the hook does elsewhere."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from diffusers.guiders import ClassifierFreeGuidance, PerturbedAttentionGuidance
from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks
from torch import Tensor

import scalecrafter
from scalecrafter import NoiseDampedGuidance, Recipe, RecipeError
from scalecrafter.patching.damping import GuidanceNotice
from tests.support.tiny_models import tiny_sdxl_pipeline

DILATED = Recipe.parse('[redilation]\nuntil = 0.6\nlayers = { "down_blocks.1" = 2, "mid_block" = 2.5 }')
DAMPED = Recipe.parse(
    '[redilation]\nuntil = 0.8\nprogressive = true\nlayers = { "down_blocks.1" = 3, "mid_block" = 4 }\n'
    '[dispersion]\nuntil = 0.3\nlayers = ["mid_block"]\n'
    '[noise_damping]\nuntil = 0.5\nlayers = { "mid_block" = 2 }\n'
)
STEPS = 4
GUIDANCE = 5.0
PRECISE = 1e-9


@functools.cache
def standard() -> Any:
    return tiny_sdxl_pipeline().to(torch.float64)


def modular(guider: Any) -> Any:
    """A modular pipeline of the same models."""
    blocks = StableDiffusionXLAutoBlocks()
    pipe = blocks.init_pipeline()
    names = {component.name for component in blocks.expected_components}
    pipe.register_components(**{k: v for k, v in standard().components.items() if v is not None and k in names})
    pipe.update_components(guider=guider)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def settings(images: int, **options: Any) -> dict[str, Any]:
    side = 64
    start = {} if "image" in options else {"latents": noise(images, side // 8)}
    size = {} if "image" in options else {"height": side, "width": side}
    prompts = {"prompt": "a fox", "negative_prompt": "dull", "num_images_per_prompt": images}
    generator = torch.Generator().manual_seed(1)
    return {
        **prompts,
        **start,
        **size,
        "generator": generator,
        "num_inference_steps": STEPS,
        "output_type": "latent",
    } | options


def noise(images: int, side: int) -> Tensor:
    return torch.randn(images, 4, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def from_modular(pipe: Any, images: int = 1, **options: Any) -> Tensor:
    return pipe(**settings(images, **options), output="latents")


def from_standard(images: int = 1, guidance_scale: float = GUIDANCE, pipe: Any = None, **options: Any) -> Tensor:
    return (pipe or standard())(**settings(images, **options), guidance_scale=guidance_scale).images


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.sampled
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("guider", [ClassifierFreeGuidance, NoiseDampedGuidance])
def test_redilation_is_that_of_the_standard_pipeline(guider: Any, images: int) -> None:
    """Two pictures make an even batch of one branch, which must not be taken for a guided pair."""
    pipe = modular(guider(guidance_scale=GUIDANCE))
    plain = from_modular(pipe, images)
    assert difference(plain, from_standard(images)) < PRECISE
    with scalecrafter.applied(standard(), recipe=DILATED):
        expected = from_standard(images)
    assert scalecrafter.apply(pipe, recipe=DILATED) is pipe
    assert difference(from_modular(pipe, images), expected) < PRECISE
    assert difference(expected, plain) > 0.05
    scalecrafter.remove(pipe)
    assert torch.equal(from_modular(pipe, images), plain)


@pytest.mark.sampled
@pytest.mark.parametrize("rescale", [0.0, 0.7])
@pytest.mark.parametrize("first", ["guider", "apply"])
@pytest.mark.parametrize("images", [1, 2])
def test_the_guider_damps_noise_as_the_hook_does(images: int, first: str, rescale: float) -> None:
    with scalecrafter.applied(standard(), recipe=DILATED):
        undamped = from_standard(images, guidance_rescale=rescale)
    with scalecrafter.applied(standard(), recipe=DAMPED):
        expected = from_standard(images, guidance_rescale=rescale)
    guider = NoiseDampedGuidance(guidance_scale=GUIDANCE, guidance_rescale=rescale)
    pipe = modular(guider if first == "guider" else ClassifierFreeGuidance(guidance_scale=GUIDANCE))
    scalecrafter.apply(pipe, recipe=DAMPED)
    pipe.update_components(guider=guider)
    assert difference(from_modular(pipe, images), expected) < PRECISE
    assert difference(expected, undamped) > 0.05
    scalecrafter.remove(pipe)
    assert difference(from_modular(pipe, images), from_standard(images, guidance_rescale=rescale)) < PRECISE


def test_image_to_image_begins_late_in_the_table() -> None:
    image_to_image = StableDiffusionXLImg2ImgPipeline(**standard().components)
    image_to_image.set_progress_bar_config(disable=True)
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    start = {"image": image, "strength": 0.7}
    with scalecrafter.applied(image_to_image, recipe=DAMPED):
        expected = from_standard(pipe=image_to_image, **start)
    pipe = modular(NoiseDampedGuidance(guidance_scale=GUIDANCE))
    plain = from_modular(pipe, **start)
    with scalecrafter.applied(pipe, recipe=DAMPED):
        assert difference(from_modular(pipe, **start), expected) < PRECISE
    assert torch.equal(from_modular(pipe, **start), plain)


def batches_of(pipe: Any, **options: Any) -> list[int]:
    batches: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(lambda _unet, args: batches.append(args[0].shape[0]))
    from_modular(pipe, **options)
    handle.remove()
    return batches


def test_noise_damping_costs_one_unconditional_evaluation_within_its_span() -> None:
    pipe = modular(NoiseDampedGuidance(guidance_scale=GUIDANCE))
    with scalecrafter.applied(pipe, recipe=DAMPED):
        assert len(batches_of(pipe)) == STEPS * 2 + 2  # 0/4 and 1/4 are below 0.5


def test_where_the_guider_rests_nothing_is_damped() -> None:
    """Guidance from the second quarter to the third only: one strong evaluation, at step 1."""
    pipe = modular(NoiseDampedGuidance(guidance_scale=GUIDANCE, start=0.25, stop=0.75))
    with scalecrafter.applied(pipe, recipe=DAMPED), pytest.warns(GuidanceNotice, match="nothing to act on"):
        assert len(batches_of(pipe)) == 1 + 3 + 2 + 1


@pytest.mark.parametrize("guider", [ClassifierFreeGuidance, PerturbedAttentionGuidance])
def test_a_guider_that_cannot_damp_noise_is_refused_by_a_recipe_that_asks_for_it(guider: Any) -> None:
    options = {"perturbed_guidance_layers": [0]} if guider is PerturbedAttentionGuidance else {}
    pipe = modular(guider(guidance_scale=GUIDANCE, **options))
    scalecrafter.apply(pipe, recipe=DAMPED)
    name = guider.__name__
    with pytest.raises(RecipeError, match=rf"{name}, does not damp noise.*guider=scalecrafter.NoiseDampedGuidance"):
        from_modular(pipe)
    pipe.update_components(guider=NoiseDampedGuidance(guidance_scale=GUIDANCE))
    from_modular(pipe)
    scalecrafter.remove(pipe)


@pytest.mark.slow
def test_the_automatic_recipe_says_what_it_does_without() -> None:
    """At four times the native side the published recipes of SDXL damp noise."""
    large: dict[str, Any] = {"height": 512, "width": 512, "latents": noise(1, 64)}
    pipe = modular(ClassifierFreeGuidance(guidance_scale=GUIDANCE))
    with scalecrafter.applied(pipe):
        with pytest.warns(GuidanceNotice, match="ClassifierFreeGuidance cannot do"):
            assert len(batches_of(pipe, **large)) == STEPS * 2
        with warnings.catch_warnings():
            warnings.simplefilter("error", GuidanceNotice)
            from_modular(pipe, **large)


def test_the_guider_is_saved_and_copied_as_those_of_diffusers(tmp_path: Path) -> None:
    guider = NoiseDampedGuidance(guidance_scale=4.0)
    assert isinstance(guider.new(guidance_scale=3.0), NoiseDampedGuidance)
    guider.save_pretrained(tmp_path)
    assert NoiseDampedGuidance.from_pretrained(tmp_path).guidance_scale == 4.0
