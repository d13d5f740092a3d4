"""Tiny real diffusers models with seeded random weights, for every test that needs a U-Net or a pipeline.

Module paths are those of the published models. The three `*_meta` U-Nets are the published architectures
themselves, on the meta device: module tree and shapes, no memory. Nothing here imports `scalecrafter`.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from packaging.version import Version
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers import __version__ as transformers_version

MAX_LENGTH = 32
NATIVE_LATENTS = 16
GAIN = 1.4

Model = TypeVar("Model", bound=torch.nn.Module)


def _seeded(build: Callable[[], Model], seed: int, gain: float = GAIN) -> Model:
    """Build a model and draw its weights so that each layer's output is O(1); the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        model = build()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                fan_in = parameter.numel() // parameter.shape[0]
                parameter.copy_(noise * gain / math.sqrt(fan_in))
            elif name.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise)
            else:
                parameter.copy_(0.1 * noise)
    return model.requires_grad_(False).eval()


def tiny_sd_unet(seed: int = 0, **config: Any) -> UNet2DConditionModel:
    """An SD 1.5-shaped U-Net: four levels, native latents 16×16. `config` overrides single entries."""
    settings: dict[str, Any] = {
        "sample_size": NATIVE_LATENTS,
        "block_out_channels": (16, 16, 32, 32),
        "norm_num_groups": 8,
        "layers_per_block": 1,
        "attention_head_dim": (1, 2, 2, 2),
        "cross_attention_dim": 32,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    }
    return _seeded(lambda: UNet2DConditionModel(**(settings | config)), seed)


def tiny_sdxl_unet(seed: int = 0, **config: Any) -> UNet2DConditionModel:
    """An SDXL-shaped U-Net: three levels, no attention at the finest, native latents 16×16."""
    settings: dict[str, Any] = {
        "sample_size": NATIVE_LATENTS,
        "block_out_channels": (16, 24, 32),
        "norm_num_groups": 8,
        "layers_per_block": 2,
        "attention_head_dim": (2, 4, 4),
        "cross_attention_dim": 32,
        "transformer_layers_per_block": (1, 1, 2),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 16,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return _seeded(lambda: UNet2DConditionModel(**(settings | config)), seed)


def tiny_vae(seed: int = 0, latent_channels: int = 4) -> AutoencoderKL:
    """An AutoencoderKL with f=8."""
    return _seeded(
        lambda: AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            norm_num_groups=4,
            layers_per_block=1,
            latent_channels=latent_channels,
            sample_size=NATIVE_LATENTS * 8,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            force_upcast=False,
        ),
        seed,
    )


def tiny_tokenizer(**special: str) -> CLIPTokenizer:
    """A CLIP tokenizer without merges: every character (byte) is a token, so any text works with no download."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(character + "</w>" for character in alphabet), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if Version(transformers_version) >= Version("5"):
        return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=MAX_LENGTH, **special)
    with tempfile.TemporaryDirectory() as folder:  # transformers 4 reads them from files
        files = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        files[0].write_text(json.dumps(vocabulary))
        files[1].write_text("#version: 0.2\n")
        return CLIPTokenizer(*map(str, files), model_max_length=MAX_LENGTH, **special)


def _text_config(tokenizer: CLIPTokenizer, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def tiny_text_encoder(seed: int = 0, width: int = 32) -> CLIPTextModel:
    """A CLIP text encoder for `tiny_tokenizer`."""
    return also_in_float64(_seeded(lambda: CLIPTextModel(_text_config(tiny_tokenizer(), width)), seed))


def also_in_float64(encoder: Model) -> Model:
    """For tests that compare in float64: transformers 4 makes its masks in torch's default type, which overflows."""
    if Version(transformers_version) < Version("5"):
        encoder.register_forward_pre_hook(lambda module, _args: torch.set_default_dtype(module.dtype))
        encoder.register_forward_hook(lambda *_: torch.set_default_dtype(torch.float32), always_call=True)
    return encoder


def ddim() -> DDIMScheduler:
    """DDIM as Stable Diffusion configures it."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def tiny_sd_pipeline(seed: int = 0, scheduler: Any = None, **config: Any) -> StableDiffusionPipeline:
    """A whole StableDiffusionPipeline, native size 128×128 image pixels, DDIM unless told otherwise.

    `config` overrides entries of the U-Net's: `sample_size=8` and `layers_per_block=1` make it several times quicker.
    """
    pipe = StableDiffusionPipeline(
        vae=tiny_vae(seed + 1),
        text_encoder=tiny_text_encoder(seed + 2),
        tokenizer=tiny_tokenizer(),
        unet=tiny_sd_unet(seed, **config),
        scheduler=ddim() if scheduler is None else scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_sdxl_pipeline(seed: int = 0, scheduler: Any = None, **config: Any) -> StableDiffusionXLPipeline:
    """A whole StableDiffusionXLPipeline, native size 128×128 image pixels, DDIM unless told otherwise.

    `config` overrides entries of the U-Net's.
    """
    tokenizer = tiny_tokenizer()
    pipe = StableDiffusionXLPipeline(
        vae=tiny_vae(seed + 1),
        text_encoder=tiny_text_encoder(seed + 2, width=16),
        text_encoder_2=also_in_float64(
            _seeded(lambda: CLIPTextModelWithProjection(_text_config(tokenizer, 16)), seed + 3)
        ),
        tokenizer=tokenizer,
        tokenizer_2=tiny_tokenizer(),
        unet=tiny_sdxl_unet(seed, **config),
        scheduler=ddim() if scheduler is None else scheduler,
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _meta(**config: Any) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**config)


def sd15_unet_meta() -> UNet2DConditionModel:
    """The U-Net of Stable Diffusion 1.5 (native latents 64×64) on the meta device."""
    return _meta(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        attention_head_dim=8,
        cross_attention_dim=768,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )


def sd21_unet_meta(sample_size: int = 64) -> UNet2DConditionModel:
    """The U-Net of Stable Diffusion 2.1-base on the meta device (`sample_size=96` for the 768² model)."""
    return _meta(
        sample_size=sample_size,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        attention_head_dim=(5, 10, 20, 20),
        cross_attention_dim=1024,
        use_linear_projection=True,
        upcast_attention=sample_size == 96,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )


def sdxl_unet_meta() -> UNet2DConditionModel:
    """The U-Net of SDXL base 1.0 (native latents 128×128) on the meta device."""
    return _meta(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        layers_per_block=2,
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        transformer_layers_per_block=(1, 2, 10),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )
