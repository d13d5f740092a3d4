"""Tiny real transformers of diffusers with seeded random weights, in real pipelines without text encoders.

Text comes as embeddings, pictures leave as latents, so that no VAE or tokenizer of the family is needed.
Nothing here imports `scalecrafter`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from .tiny_models import _seeded

TEXT = 5
"""Text tokens of a prompt; odd on purpose."""
WIDTH = 32
STEPS = 2


def seeded(build: Callable[[], Any], seed: int = 0) -> Any:
    """A model whose layers' outputs are O(1)."""
    return _seeded(build, seed)


def embeddings(*shape: int, seed: int = 1) -> Tensor:
    """Random text embeddings."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def flow_scheduler(dynamic: bool = True) -> FlowMatchEulerDiscreteScheduler:
    """Flow matching whose shift depends on the size, or does not."""
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=dynamic, shift=3.0)


@dataclass
class Case:
    """One family: how its tiny pipeline is made and called."""

    family: str
    make: Callable[[], Any]
    call: dict[str, Any]
    pixels: int = 16
    """To a token."""
    latents: str = "latent"
    shifts: bool = True
    extra: dict[str, Any] = field(default_factory=dict)

    def run(self, pipe: Any, height: int, width: int, images: int = 1, **changes: Any) -> Tensor:
        """Latents of pictures of `height` × `width` tokens."""
        generator = [torch.Generator().manual_seed(seed) for seed in range(images)]
        arguments = self.call | {"height": height * self.pixels, "width": width * self.pixels} | changes
        for name, value in arguments.items() if images > 1 else ():
            if isinstance(value, Tensor):
                arguments[name] = value.repeat(images, *[1] * (value.ndim - 1))
            elif isinstance(value, list):
                arguments[name] = value * images
        output = pipe(**arguments, num_inference_steps=STEPS, generator=generator, output_type="latent")
        pictures = output[0]
        return pictures if isinstance(pictures, Tensor) else torch.stack(list(pictures))


def quiet(pipe: Any) -> Any:
    """Without a progress bar."""
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_flux(**config: Any) -> nn.Module:
    """FLUX.1's transformer, guidance-distilled."""
    settings: dict[str, Any] = {
        "in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": WIDTH, "pooled_projection_dim": WIDTH, "axes_dims_rope": (4, 6, 6),
        "guidance_embeds": True,
    }  # fmt: skip
    return seeded(lambda: diffusers.FluxTransformer2DModel(**(settings | config)))


def tiny_chroma(**config: Any) -> nn.Module:
    """Chroma's transformer."""
    settings: dict[str, Any] = {
        "in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": WIDTH, "axes_dims_rope": (4, 6, 6), "approximator_num_channels": 8,
        "approximator_hidden_dim": 16, "approximator_layers": 1,
    }  # fmt: skip
    return seeded(lambda: diffusers.ChromaTransformer2DModel(**(settings | config)))


def tiny_flux2(**config: Any) -> nn.Module:
    """FLUX.2's transformer."""
    settings: dict[str, Any] = {
        "patch_size": 1, "in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
        "num_attention_heads": 2, "joint_attention_dim": WIDTH, "timestep_guidance_channels": 32,
        "axes_dims_rope": (4, 4, 4, 4),
    }  # fmt: skip
    return seeded(lambda: diffusers.Flux2Transformer2DModel(**(settings | config)))


def flux_pipeline() -> Any:
    """FLUX.1."""
    return quiet(diffusers.FluxPipeline(flow_scheduler(), None, None, None, None, None, tiny_flux()))


def chroma_pipeline() -> Any:
    """Chroma, with classifier-free guidance in two calls."""
    return quiet(diffusers.ChromaPipeline(flow_scheduler(), None, None, None, tiny_chroma()))


def flux2_pipeline() -> Any:
    """FLUX.2."""
    return quiet(diffusers.Flux2Pipeline(flow_scheduler(), None, None, None, tiny_flux2()))


def qwen_pipeline() -> Any:
    """Qwen-Image, with true classifier-free guidance."""
    transformer = seeded(
        lambda: diffusers.QwenImageTransformer2DModel(
            patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=WIDTH, axes_dims_rope=(4, 6, 6),
        )
    )  # fmt: skip
    return quiet(diffusers.QwenImagePipeline(flow_scheduler(), None, None, None, transformer))


def z_image_pipeline() -> Any:
    """Z-Image, whose scheduler shifts by a constant."""
    transformer = seeded(
        lambda: diffusers.ZImageTransformer2DModel(
            in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH,
            axes_dims=[4, 6, 6], axes_lens=[64, 32, 32],
        )
    )  # fmt: skip
    return quiet(diffusers.ZImagePipeline(flow_scheduler(False), None, None, None, transformer))


def sd3_pipeline() -> Any:
    """Stable Diffusion 3, guided in one batch, with norms of queries and a second attention as SD 3.5 medium."""
    transformer = seeded(
        lambda: diffusers.SD3Transformer2DModel(
            sample_size=8, patch_size=1, in_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=WIDTH, caption_projection_dim=32, pooled_projection_dim=WIDTH, out_channels=4,
            pos_embed_max_size=12, dual_attention_layers=(0,), qk_norm="rms_norm",
        )
    )  # fmt: skip
    pipe = diffusers.StableDiffusion3Pipeline(transformer, flow_scheduler(False), *[None] * 7)
    return quiet(pipe)


def sana_pipeline() -> Any:
    """Sana."""
    transformer = seeded(
        lambda: diffusers.SanaTransformer2DModel(
            in_channels=4, out_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=16,
            num_cross_attention_heads=2, cross_attention_head_dim=16, cross_attention_dim=32, caption_channels=WIDTH,
            sample_size=8, patch_size=1,
        )
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return quiet(diffusers.SanaPipeline(None, None, None, transformer, scheduler))


def tiny_wan() -> Any:
    """Wan's transformer, for video."""
    return seeded(
        lambda: diffusers.WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=WIDTH, freq_dim=16,
            ffn_dim=32, num_layers=1, rope_max_seq_len=32,
        )
    )  # fmt: skip


def tiny_hunyuan_image() -> Any:
    """HunyuanImage's transformer, whose text has no rotary positions."""
    return seeded(
        lambda: diffusers.HunyuanImageTransformer2DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1,
            num_single_layers=1, num_refiner_layers=1, text_embed_dim=WIDTH, rope_axes_dim=(8, 8),
        )
    )  # fmt: skip


PROMPT = {"prompt_embeds": embeddings(1, TEXT, WIDTH)}
POOLED = {"pooled_prompt_embeds": embeddings(1, WIDTH, seed=2)}
NEGATIVE = {"negative_prompt_embeds": embeddings(1, TEXT, WIDTH, seed=3)}
MASK = torch.ones(1, TEXT, dtype=torch.long)

CASES = {
    case.family: case
    for case in (
        Case("flux", flux_pipeline, PROMPT | POOLED),
        Case("chroma", chroma_pipeline, PROMPT | NEGATIVE | {
            "prompt_attention_mask": torch.ones(1, TEXT), "negative_prompt_attention_mask": torch.ones(1, TEXT),
        }),
        Case("flux2", flux2_pipeline, PROMPT),
        Case("qwen-image", qwen_pipeline, PROMPT | NEGATIVE | {
            "true_cfg_scale": 4.0, "prompt_embeds_mask": MASK, "negative_prompt_embeds_mask": MASK,
        }),
        Case("z-image", z_image_pipeline, {
            "prompt_embeds": list(PROMPT["prompt_embeds"]),
            "negative_prompt_embeds": list(NEGATIVE["negative_prompt_embeds"]), "guidance_scale": 4.0,
        }, shifts=False),
        Case("sd3", sd3_pipeline, PROMPT | POOLED | NEGATIVE | {
            "negative_pooled_prompt_embeds": embeddings(1, WIDTH, seed=4), "guidance_scale": 4.0,
        }, pixels=8, shifts=False),
        Case("sana", sana_pipeline, PROMPT | NEGATIVE | {
            "prompt_attention_mask": MASK, "negative_prompt_attention_mask": MASK, "use_resolution_binning": False,
            "negative_prompt": None,
        }, pixels=32, shifts=False),
    )
}  # fmt: skip
