"""Pipelines whose U-Net calls are no pairs of an unconditional and a conditional half: never damped as if they were."""

from __future__ import annotations

import warnings
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image
from torch import Tensor

import scalecrafter
from scalecrafter import Recipe, RecipeError
from scalecrafter.unet.branches import repeats_its_latents, unsupported_guidance
from tests.support.tasks import DAMPED, DILATED, base, fresh, of_class
from tests.support.tiny_models import tiny_sd_unet

UNSUPPORTED = [
    "CycleDiffusionPipeline",
    "LEditsPPPipelineStableDiffusion",
    "LEditsPPPipelineStableDiffusionXL",
    "SemanticStableDiffusionPipeline",
    "StableDiffusionControlNetPAGPipeline",
    "StableDiffusionDiffEditPipeline",
    "StableDiffusionGLIGENTextImagePipeline",
    "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionPanoramaPipeline",
    "StableDiffusionParadigmsPipeline",
    "StableDiffusionPipelineSafe",
    "StableDiffusionPix2PixZeroPipeline",
    "StableDiffusionSAGPipeline",
    "StableDiffusionXLInstructPix2PixPipeline",
    "StableDiffusionXLPAGInpaintPipeline",
    "TextToVideoZeroPipeline",
]
AS_USUAL = [
    "AnimateDiffPipeline",
    "KolorsPipeline",
    "StableDiffusionGLIGENPipeline",
    "StableDiffusionPipeline",
    "StableDiffusionXLControlNetInpaintPipeline",
    "StableVideoDiffusionPipeline",
]


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_pipeline_that_unsupported_guidance_is_known_by_its_class(name: str) -> None:
    kind = getattr(diffusers, name)
    assert unsupported_guidance(object.__new__(kind))
    assert unsupported_guidance(object.__new__(type("MyOwn", (kind,), {})))


@pytest.mark.parametrize("name", AS_USUAL)
def test_a_pipeline_that_guides_as_usual_is_left_alone(name: str) -> None:
    kind = getattr(diffusers, name)
    if "_backends" in vars(kind):
        pytest.skip(f"this diffusers has {name} only where there is {kind._backends}")
    assert unsupported_guidance(object.__new__(kind)) is None


def batches(pipe: Any, **call: Any) -> tuple[list[int], Any]:
    """The batch sizes of the U-Net's calls, strong denoiser included, and what the pipeline made."""
    seen: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(
        lambda _unet, args, kwargs: seen.append((args[0] if args else kwargs["sample"]).shape[0]), with_kwargs=True
    )
    try:
        made = pipe(**call)
    finally:
        handle.remove()
    return seen, made


def call(images: int = 2, **more: Any) -> dict[str, Any]:
    generators = [torch.Generator().manual_seed(seed) for seed in range(images)]
    said = {"prompt": "a fox", "num_images_per_prompt": images, "generator": generators, "num_inference_steps": 2}
    return said | {"width": 192, "height": 192, "output_type": "latent"} | more


def test_a_three_branch_pipeline_on_the_same_unet_is_not_damped_and_says_so() -> None:
    pipe = fresh("sd")
    other = diffusers.StableDiffusionPAGPipeline(
        **pipe.components, pag_applied_layers=["mid"], requires_safety_checker=False
    )
    other.set_progress_bar_config(disable=True)
    with scalecrafter.applied(other, recipe=Recipe.parse(DILATED)):
        expected = other(**call(pag_scale=2.0)).images
    pipe(**call())  # since then it says that it guides
    with scalecrafter.applied(pipe, recipe=Recipe.parse(DAMPED)), pytest.warns(UserWarning, match="a U-Net call of 6"):
        seen, made = batches(other, **call(pag_scale=2.0))
    assert seen == [6, 6]
    assert made.images.equal(expected)


def test_a_pipeline_without_guidance_and_without_saying_so_is_not_damped() -> None:
    source = base("sd", 8)
    components = {k: source.components[k] for k in ("unet", "vae", "scheduler", "text_encoder", "tokenizer")}
    pipe = diffusers.MarigoldNormalsPipeline(**components, default_processing_resolution=0)
    pipe.set_progress_bar_config(disable=True)
    pictures = [Image.linear_gradient("L").rotate(turn).convert("RGB").resize((192, 192)) for turn in (0, 90)]
    settings = {"num_inference_steps": 2, "batch_size": 2, "processing_resolution": 0, "output_type": "pt"}
    with scalecrafter.applied(pipe, recipe=Recipe.parse(DAMPED)), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        seen, made = batches(pipe, image=pictures, generator=torch.Generator().manual_seed(0), **settings)
    assert seen == [2, 2]
    with scalecrafter.applied(pipe, recipe=Recipe.parse(DILATED)):
        _, expected = batches(pipe, image=pictures, generator=torch.Generator().manual_seed(0), **settings)
    assert made.prediction.equal(expected.prediction)


def test_edits_are_refused_damping_by_name_and_run_re_dilated() -> None:
    source = fresh("sd")  # the pipeline leaves its attention processors behind
    pipe = diffusers.LEditsPPPipelineStableDiffusion(
        **{k: source.components[k] for k in ("unet", "vae", "text_encoder", "tokenizer")},
        scheduler=diffusers.DPMSolverMultistepScheduler.from_config(
            source.scheduler.config, algorithm_type="sde-dpmsolver++", solver_order=2
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    with pytest.raises(RecipeError, match=r"LEditsPP.* guides in one branch for each edit"):
        scalecrafter.apply(pipe, recipe=Recipe.parse(DAMPED))

    def edited() -> tuple[list[int], Tensor]:
        picture = Image.linear_gradient("L").convert("RGB").resize((192, 192))
        pipe.invert(image=picture, num_inversion_steps=4, skip=0.3, generator=torch.Generator().manual_seed(0))
        edits = {"editing_prompt": ["an owl", "a hat", "snow"], "edit_guidance_scale": [4.0, 4.0, 4.0]}
        seen, made = batches(pipe, **edits, edit_threshold=[0.5, 0.5, 0.5], output_type="latent", sem_guidance=None)
        return seen, made.images

    _, plain = edited()
    with scalecrafter.applied(pipe, recipe=Recipe.parse(DILATED)):
        seen, re_dilated = edited()
    assert set(seen) == {4}
    assert not re_dilated.equal(plain)


def test_without_guidance_a_controlnet_in_guess_mode_is_re_dilated_alone(tmp_path: Any) -> None:
    from tests.support.tasks import controlnet_in_guess_mode

    pipe = controlnet_in_guess_mode("sd", tmp_path).pipe
    picture = Image.linear_gradient("L").convert("RGB").resize((192, 192))
    said = call(guess_mode=True, image=picture, guidance_scale=1.0)
    with scalecrafter.applied(pipe, recipe=Recipe.parse(DAMPED)):
        seen, made = batches(pipe, **said)
    with scalecrafter.applied(pipe, recipe=Recipe.parse(DILATED)):
        expected = pipe(**call(guess_mode=True, image=picture, guidance_scale=1.0)).images
    assert seen == [2, 2]
    assert made.images.equal(expected)


@pytest.mark.parametrize(
    ("shape", "in_channels"), [((4, 4, 8, 8), 4), ((4, 9, 8, 8), 9), ((4, 4, 3, 8, 8), 4), ((4, 3, 8, 8, 8), 8)]
)
def test_a_pair_is_told_by_its_latents_alone(shape: tuple[int, ...], in_channels: int) -> None:
    unet = tiny_sd_unet(in_channels=in_channels)
    half = torch.randn(shape[0] // 2, *shape[1:], generator=torch.Generator().manual_seed(0))
    pair = torch.cat([half, half])
    assert repeats_its_latents(pair, unet)
    channels = 1 if len(shape) == 4 or shape[1] == in_channels else 2
    if in_channels > 4:  # what comes beside the latents may differ
        pair.narrow(channels, 4, in_channels - 4)[0] = 0
        assert repeats_its_latents(pair, unet)
    pair.narrow(channels, 0, 4)[0] = 0
    assert not repeats_its_latents(pair, unet)
    assert not repeats_its_latents(pair[:3], unet)


def test_a_video_with_as_many_frames_as_channels_is_a_pair_too() -> None:
    """Stable Video Diffusion has frames before channels, and a picture beside the latents in one half."""
    frames = torch.randn(1, 8, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    pair = torch.cat([frames, frames])
    pair[0, :, 4:] = 0
    assert repeats_its_latents(pair, tiny_sd_unet(in_channels=8))


def of_three(kind: str) -> Any:
    return of_class(kind, "PAGPipeline", pag_applied_layers=["mid"])


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_the_automatic_recipe_of_a_three_branch_pipeline_leaves_damping_out(kind: str) -> None:
    pipe = of_three(kind)
    with scalecrafter.applied(pipe), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        seen, _ = batches(pipe, **call(images=1, width=512, height=512, num_inference_steps=1))
    assert seen == [3]


def test_a_plan_shows_no_strong_denoiser_where_none_will_run() -> None:
    pipe = base("sdxl")
    side = 4 * 8 * pipe.unet.config.sample_size
    pag = diffusers.StableDiffusionXLPAGPipeline(**pipe.components, pag_applied_layers=["mid"])
    published, without = (scalecrafter.plan(one, side, side).recipe for one in (pipe, pag))
    assert published is not None
    assert published.noise_damping is not None
    assert without == published.model_copy(update={"noise_damping": None})
    with pytest.raises(RecipeError, match=r"three branches.*take a recipe without \[noise_damping\]"):
        scalecrafter.plan(pag, side, side, recipe=published)
