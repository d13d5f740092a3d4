"""Entropy scaling against attention computed by hand, with every attention processor, and gone afterwards."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, SlicedAttnProcessor
from torch import Tensor

from scalecrafter import ModelError
from scalecrafter.generation.generate import generate
from scalecrafter.ops.entropy import entropy_scale
from scalecrafter.patching.attention import scaled_attention
from scalecrafter.request.request import Request
from tests.support.reference_sampling import PROMPT
from tests.support.tiny_models import NATIVE_LATENTS, tiny_sd_pipeline, tiny_sd_unet


class PlainAttention:
    """Softmax attention by hand; self-attention with the paper's λ = √(log_T N / d)."""

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio  # of the latents' area to the native one

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
    ) -> Tensor:
        assert attention_mask is None
        attended = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = attn.to_q(hidden_states), attn.to_k(attended), attn.to_v(attended)
        width = q.shape[-1] // attn.heads
        scale = math.sqrt(1 / width)
        if encoder_hidden_states is None:
            tokens = hidden_states.shape[1]
            scale = math.sqrt(math.log(tokens, tokens / self.ratio) / width)
        heads = []
        for head in range(attn.heads):
            part = slice(head * width, (head + 1) * width)
            logits = scale * q[..., part] @ k[..., part].transpose(1, 2)
            heads.append(logits.softmax(dim=-1) @ v[..., part])
        return attn.to_out[0](torch.cat(heads, dim=-1))


def inputs(size: tuple[int, int], seed: int = 0) -> tuple[Tensor, int, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 4, *size, generator=generator), 500, torch.randn(2, 7, 32, generator=generator)


@pytest.mark.sampled
@pytest.mark.parametrize("size", [(32, 32), (24, 40), (16, 8)])
@pytest.mark.parametrize("processor", [AttnProcessor2_0(), AttnProcessor(), SlicedAttnProcessor(2)])
@torch.no_grad()
def test_it_is_attention_with_the_papers_scale(size: tuple[int, int], processor: Any) -> None:
    unet, call = tiny_sd_unet(), inputs(size)
    unet.set_attn_processor(processor)
    with scaled_attention(unet):
        ours = unet(*call).sample
    plain = unet(*call).sample
    unet.set_attn_processor(PlainAttention(size[0] * size[1] / NATIVE_LATENTS**2))
    expected = unet(*call).sample
    assert (ours - expected).abs().max() < 1e-4
    assert (ours - plain).abs().max() > 1e-3


def test_the_scale_is_the_root_of_a_ratio_of_logarithms() -> None:
    assert entropy_scale(4096, 1024) == pytest.approx(math.sqrt(12 / 10))
    assert entropy_scale(64, 256) == pytest.approx(math.sqrt(6 / 8))
    assert entropy_scale(256, 256) == 1.0
    assert entropy_scale(4, 1) == 1.0


@torch.no_grad()
def test_it_is_gone_after_an_exception_and_inert_at_the_native_size() -> None:
    unet, large, native = tiny_sd_unet(), inputs((32, 32)), inputs((NATIVE_LATENTS, NATIVE_LATENTS))
    before = unet(*large).sample

    def stop_inside() -> None:
        with scaled_attention(unet):
            assert torch.equal(unet(*native).sample, tiny_sd_unet()(*native).sample)
            assert not torch.equal(unet(*large).sample, before)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop_inside()
    assert torch.equal(unet(*large).sample, before)


def test_fused_projections_are_refused_before_anything_is_changed() -> None:
    pipe = tiny_sd_pipeline()
    pipe.fuse_qkv_projections(vae=False)
    with pytest.raises(ModelError, match=r"unfuse_qkv_projections"), scaled_attention(pipe):
        pass
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipe.unet.modules())


def test_the_method_is_the_pipeline_with_scaled_attention() -> None:
    pipe = tiny_sd_pipeline()
    request = Request(prompt=PROMPT, method="attention-scaling", steps=3, seed=2, guidance=7.5, width=192, height=320)
    with scaled_attention(pipe):
        expected = pipe(
            PROMPT, width=192, height=320, num_inference_steps=3, generator=torch.Generator().manual_seed(2)
        ).images[0]  # fmt: skip
    assert generate(pipe, request).image.tobytes() == expected.tobytes()
