"""Whole tiny pipelines with a transformer: a VAE, and prompts, so that pictures can be asked for.

FLUX.1 and SD 3 have real tiny text encoders.  The language models of the other families are stood in for: a prompt's
embeddings are drawn by its text.  Native is 128² pixels, 8 × 8 tokens.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from .tiny_models import _seeded, _text_config, tiny_text_encoder, tiny_tokenizer, tiny_vae
from .tiny_transformers import (
    TEXT,
    WIDTH,
    embeddings,
    flow_scheduler,
    quiet,
    seeded,
    tiny_chroma,
    tiny_flux,
    tiny_flux2,
)
from .vaes import sd_vae
from .vaes import seeded as seeded_vae

NATIVE = 128
"""Image pixels."""
LATENTS = 16


def native(transformer: Any) -> Any:
    """A transformer whose config says its size, as that of SD 3 does."""
    transformer.register_to_config(sample_size=LATENTS)
    return transformer


def whole_flux(**config: Any) -> Any:
    """FLUX.1."""
    transformer = native(tiny_flux(**{"in_channels": 16} | config))
    vae = tiny_vae(1)
    vae.register_to_config(shift_factor=0.1)
    texts = (tiny_text_encoder(2, WIDTH), tiny_tokenizer(), tiny_text_encoder(3, WIDTH), tiny_tokenizer())
    return quiet(diffusers.FluxPipeline(flow_scheduler(), vae, *texts, transformer))


def whole_chroma() -> Any:
    """Chroma, guided in two calls."""
    transformer = native(tiny_chroma(in_channels=16))
    transformer.register_to_config(guidance_embeds=False)  # as the published config has it
    vae = tiny_vae(1)
    vae.register_to_config(shift_factor=0.1)
    return quiet(diffusers.ChromaPipeline(flow_scheduler(), vae, None, None, transformer))


def whole_flux2() -> Any:
    """FLUX.2, whose latents are normalised by statistics that its VAE keeps."""
    transformer = native(tiny_flux2(in_channels=16))
    levels: dict[str, Any] = {
        "block_out_channels": (8,) * 4, "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4, "norm_num_groups": 4, "layers_per_block": 1,
    }  # fmt: skip
    vae = seeded(lambda: diffusers.AutoencoderKLFlux2(latent_channels=4, **levels))
    vae.bn.running_mean.copy_(embeddings(16) * 0.2)
    vae.bn.running_var.copy_(0.5 + embeddings(16).abs())
    return quiet(diffusers.Flux2Pipeline(flow_scheduler(), vae, None, None, transformer))


def whole_sd3() -> Any:
    """Stable Diffusion 3, without its third text encoder."""
    transformer = seeded(
        lambda: diffusers.SD3Transformer2DModel(
            sample_size=LATENTS, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=2 * WIDTH, caption_projection_dim=32,
            pooled_projection_dim=2 * WIDTH, out_channels=16, pos_embed_max_size=48, qk_norm="rms_norm",
        )
    )  # fmt: skip
    encoders = [
        _seeded(lambda: CLIPTextModelWithProjection(_text_config(tiny_tokenizer(), WIDTH)), seed) for seed in (2, 3)
    ]
    vae = sd_vae(width=8, layers=1, latent_channels=16, shift_factor=0.1)
    tokenizer = tiny_tokenizer()
    return quiet(
        diffusers.StableDiffusion3Pipeline(
            transformer, flow_scheduler(False), vae, encoders[0], tokenizer, encoders[1], tokenizer, None, None
        )
    )


def whole_qwen() -> Any:
    """Qwen-Image, with a video VAE."""
    transformer = native(
        seeded(
            lambda: diffusers.QwenImageTransformer2DModel(
                patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16,
                num_attention_heads=2, joint_attention_dim=WIDTH, axes_dims_rope=(4, 6, 6),
            )
        )
    )  # fmt: skip
    vae = seeded_vae(
        diffusers.AutoencoderKLQwenImage(
            base_dim=4, z_dim=4, num_res_blocks=1, latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.1, 0.9, 1.0, 1.2]
        )
    )
    return quiet(diffusers.QwenImagePipeline(flow_scheduler(), vae, None, None, transformer))


def whole_z_image() -> Any:
    """Z-Image."""
    transformer = native(
        seeded(
            lambda: diffusers.ZImageTransformer2DModel(
                in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH,
                axes_dims=[4, 6, 6], axes_lens=[64, 32, 32],
            )
        )
    )  # fmt: skip
    vae = tiny_vae(1)
    vae.register_to_config(shift_factor=0.1)
    return quiet(diffusers.ZImagePipeline(flow_scheduler(False), vae, None, None, transformer))


def whole_sana() -> Any:
    """Sana, whose VAE has a factor of 32."""
    transformer = seeded(
        lambda: diffusers.SanaTransformer2DModel(
            in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=16,
            num_cross_attention_heads=2, cross_attention_head_dim=16, cross_attention_dim=32, caption_channels=WIDTH,
            sample_size=NATIVE // 32, patch_size=1,
        )
    )  # fmt: skip
    blocks, scales = ("ResBlock",) * 5 + ("EfficientViTBlock",), ((),) * 5 + ((5,),)
    vae = seeded_vae(
        diffusers.AutoencoderDC(
            latent_channels=4, attention_head_dim=8, encoder_block_types=blocks, decoder_block_types=blocks,
            encoder_block_out_channels=(8, 8, 8, 8, 16, 16), decoder_block_out_channels=(8, 8, 8, 8, 16, 16),
            encoder_layers_per_block=(1,) * 6, decoder_layers_per_block=(1,) * 6,
            encoder_qkv_multiscales=scales, decoder_qkv_multiscales=scales, scaling_factor=0.4,
        )
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return quiet(diffusers.SanaPipeline(None, None, vae, transformer, scheduler))


def words(prompt: str | list[str]) -> Tensor:
    """Embeddings `(prompts, tokens, width)` that are a prompt's own."""
    prompts = [prompt] if isinstance(prompt, str) else prompt
    return torch.cat([embeddings(1, TEXT, WIDTH, seed=zlib.crc32(one.encode())) for one in prompts])


def stand_in_for_language_models(patch: Any) -> None:
    """Let the pipelines of families with a language model embed prompts by `words`."""

    def chroma(_self: Any, prompt: list[str], num_images_per_prompt: int = 1, **_: Any) -> Any:
        found = words(prompt).repeat_interleave(num_images_per_prompt, 0)
        return found, torch.ones(found.shape[:2])

    def flux2(*, prompt: Any, **_: Any) -> Any:
        return words(prompt)

    def qwen(_self: Any, prompt: Any, *_: Any, **named: Any) -> Any:
        if named.get("prompt_embeds") is not None:
            return named["prompt_embeds"], named.get("prompt_embeds_mask")
        found = words(prompt)
        return found, torch.ones(found.shape[:2], dtype=torch.long)

    def z_image(_self: Any, prompt: Any, *_: Any, **named: Any) -> Any:
        guided = named.get("do_classifier_free_guidance", True)
        count = 1 if isinstance(prompt, str) else len(prompt)
        negative = named.get("negative_prompt") or [""] * count
        return list(words(prompt)), list(words(negative)) if guided else []

    def sana(_self: Any, prompt: Any, *_: Any, **named: Any) -> Any:
        found, negative = words(prompt), words(named.get("negative_prompt") or "")
        negative = negative.expand(len(found), -1, -1)
        mask = torch.ones(found.shape[:2], dtype=torch.long)
        return found, mask, negative, mask

    for name in ("ChromaPipeline", "ChromaImg2ImgPipeline", "ChromaInpaintPipeline"):
        patch.setattr(getattr(diffusers, name), "_get_t5_prompt_embeds", chroma)
    patch.setattr(diffusers.Flux2Pipeline, "_get_mistral_3_small_prompt_embeds", staticmethod(flux2))
    for name in ("QwenImagePipeline", "QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline"):
        patch.setattr(getattr(diffusers, name), "encode_prompt", qwen)
    for name in ("ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline"):
        patch.setattr(getattr(diffusers, name), "encode_prompt", z_image)
    patch.setattr(diffusers.SanaPipeline, "encode_prompt", sana)


WHOLE: dict[str, Callable[[], Any]] = {
    "flux": whole_flux, "chroma": whole_chroma, "flux2": whole_flux2, "qwen-image": whole_qwen,
    "z-image": whole_z_image, "sd3": whole_sd3, "sana": whole_sana,
}  # fmt: skip
