"""Models without a convolutional U-Net are refused with one sentence that names what they have instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch

import scalecrafter
from scalecrafter import ModelError
from scalecrafter.generation.generate import generate
from scalecrafter.request.request import Request
from tests.support import tiny_architectures as tiny
from tests.support.tiny_models import tiny_sd_unet
from tests.support.untrained_video import untrained_pipeline


def pixart() -> Any:
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        out_channels=8, cross_attention_dim=16, caption_channels=16, norm_type="ada_norm_single",
    )  # fmt: skip
    return with_parts(diffusers.PixArtAlphaPipeline, transformer=transformer)


def stable_cascade() -> Any:
    return with_parts(diffusers.StableCascadeDecoderPipeline, decoder=cascade_unet())


def stable_cascade_prior() -> Any:
    return with_parts(diffusers.StableCascadePriorPipeline, prior=cascade_unet())


def cascade_unet() -> Any:
    return diffusers.models.StableCascadeUNet(
        in_channels=4, out_channels=4, timestep_ratio_embedding_dim=8, patch_size=2, conditioning_dim=32,
        block_out_channels=(16, 32), num_attention_heads=(2, 2), down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1), down_blocks_repeat_mappers=(1, 1), up_blocks_repeat_mappers=(1, 1),
        block_types_per_layer=(("SDCascadeResBlock", "SDCascadeTimestepBlock"),) * 2, clip_text_pooled_in_channels=32,
        switch_level=(False,),
    )  # fmt: skip


def sound() -> Any:
    unet = diffusers.UNet1DModel(
        block_out_channels=(32, 64), sample_size=64, extra_in_channels=16,
        down_block_types=("DownBlock1D", "AttnDownBlock1D"), up_block_types=("AttnUpBlock1D", "UpBlock1D"),
    )  # fmt: skip
    return with_parts(diffusers.DanceDiffusionPipeline, unet=unet)


def with_parts(pipeline: type, **parts: Any) -> Any:
    """The real pipeline with one real network, and nothing in the places of the others."""
    pipe = pipeline.__new__(pipeline)
    diffusers.DiffusionPipeline.__init__(pipe)
    pipe.register_modules(**parts)
    return pipe


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "stable-cascade": (stable_cascade, "DecoderPipeline has a network of another kind .StableCascadeUNet. in its"),
    "stable-cascade-prior": (stable_cascade_prior, "PriorPipeline has a network of another kind .StableCascadeUNet."),
    "stable-cascade-bare": (cascade_unet, "StableCascadeUNet is a network of another kind"),
    "sound": (sound, "DanceDiffusionPipeline has a network of another kind .UNet1DModel. in its place"),
    "no-model": (object, "object has none"),
    "vae": (lambda: torch.nn.Conv2d(3, 3, 3), "Conv2d is a network of another kind"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_convolutional_unet_is_refused_with_one_sentence(name: str) -> None:
    build, told = REFUSED[name]
    pipe = build()
    for attempt in (scalecrafter.apply, scalecrafter.remove, lambda p: scalecrafter.plan(p, 1024, 1024)):
        with pytest.raises(ModelError, match=f"needs a convolutional U-Net; .*{told}") as refusal:
            attempt(pipe)
        assert "\n" not in str(refusal.value)
        assert "Use a pipeline of the Stable Diffusion" in str(refusal.value)


def test_an_unknown_transformer_is_refused_by_name() -> None:
    pipe = pixart()
    for attempt in (scalecrafter.apply, scalecrafter.remove, lambda p: scalecrafter.plan(p, 1024, 1024)):
        with pytest.raises(ModelError, match=r"not know the transformer of PixArtAlphaPipeline \(PixArtTransformer2DM"):
            attempt(pipe)


def test_a_unet_under_another_name_is_told() -> None:
    pipe = with_parts(diffusers.UnCLIPPipeline, decoder=tiny_sd_unet())
    with pytest.raises(ModelError, match=r"UnCLIPPipeline calls it 'decoder': pass pipe\.decoder itself"):
        scalecrafter.apply(pipe)
    scalecrafter.remove(scalecrafter.apply(pipe.decoder))


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: untrained_pipeline("animatediff"), "AnimateDiffPipeline makes videos"),
        (lambda: untrained_pipeline("svd"), "StableVideoDiffusionPipeline makes videos"),
        (tiny.ddpm, "DDPMPipeline does not draw a prompt at a given size"),
        (tiny.kandinsky22, "KandinskyV22Pipeline does not draw a prompt at a given size"),
        (tiny.x4_upscaler, "StableDiffusionUpscalePipeline does not draw a prompt at a given size"),
    ],
)
def test_a_request_is_refused_where_the_pipeline_draws_something_else(build: Callable[[], Any], told: str) -> None:
    with pytest.raises(ModelError, match=f"{told}.*scalecrafter.apply"):
        generate(build(), Request(prompt="a fox", width=128, height=128))


def test_a_request_is_drawn_by_every_pipeline_that_draws_prompts() -> None:
    for build in (tiny.sd2, tiny.ssd_1b):
        result = generate(build(), Request(prompt="a fox", width=128, height=128, steps=1, seed=1))
        assert result.image.size == (128, 128)
