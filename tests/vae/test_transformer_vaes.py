"""Exact tiles of the VAEs that transformers use: 16 channels, causal 3-D convolutions, deep compression."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from scalecrafter import ModelError
from scalecrafter.vae import decode_memory, encode_memory, vae_memory_applied
from scalecrafter.vae.previews import preview
from scalecrafter.vae.spans import tile_choices
from scalecrafter.vae.video import VideoCall
from scalecrafter.vae.walk import operations_of
from tests.support.vaes import difference, noise, sd_vae, seeded

pytestmark = pytest.mark.sampled

LIMIT = 1e-4


SMALL: dict[str, Any] = {
    "base_dim": 4, "z_dim": 4, "num_res_blocks": 1, "latents_mean": [0.1, 0.0, -0.2, 0.3],
    "latents_std": [1.0, 1.1, 0.9, 1.2],
}  # fmt: skip


def flux_vae() -> Any:
    """FLUX.1's and SD 3's: 16 channels, no convolution around the latents."""
    return sd_vae(width=8, latent_channels=16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1)


def flux2_vae() -> Any:
    """FLUX.2's, narrow: its encoder's output is normalised outside of it."""
    levels: dict[str, Any] = {
        "block_out_channels": (8,) * 4, "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4, "norm_num_groups": 4, "layers_per_block": 1,
    }  # fmt: skip
    return seeded(diffusers.AutoencoderKLFlux2(latent_channels=16, **levels))


def wan_vae(**config: Any) -> Any:
    """Wan's, narrow; its biases and gammas drawn."""
    return seeded(diffusers.AutoencoderKLWan(**(SMALL | config)))


def qwen_vae(**config: Any) -> Any:
    """Qwen-Image's, narrow."""
    return seeded(diffusers.AutoencoderKLQwenImage(**(SMALL | config)))


def sana_vae(**config: Any) -> Any:
    """Sana's, with a factor of 8."""
    settings: dict[str, Any] = {
        "latent_channels": 8, "attention_head_dim": 8,
        "encoder_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
        "decoder_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
        "encoder_block_out_channels": (8, 16, 16, 32), "decoder_block_out_channels": (8, 16, 16, 32),
        "encoder_layers_per_block": (1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1),
        "encoder_qkv_multiscales": ((), (), (5,), (5,)), "decoder_qkv_multiscales": ((), (), (5,), (3, 5)),
        "decoder_norm_types": ("rms_norm", "batch_norm", "rms_norm", "rms_norm"),
    }  # fmt: skip
    return seeded(diffusers.AutoencoderDC(**(settings | config)))


MAKERS = {"flux": flux_vae, "flux2": flux2_vae, "wan": wan_vae, "qwen-image": qwen_vae, "sana": sana_vae}
LATENTS = {"flux": (16,), "flux2": (16,), "wan": (4, 1), "qwen-image": (4, 1), "sana": (8,)}


def decoded(vae: Any, latents: Tensor) -> Tensor:
    with torch.no_grad():
        return vae.decode(latents, return_dict=False)[0]


def encoded(vae: Any, picture: Tensor) -> Tensor:
    with torch.no_grad():
        given = vae.encode(picture, return_dict=False)[0]
    return given if isinstance(given, Tensor) else given.parameters


def parts(vae: Any) -> list[tuple[str, ...]]:
    return [tuple(dict(module.named_children())) for module in vae.modules()]


@pytest.mark.parametrize("tile", [(64, 64), (40, 72), (32, 10_000)])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_tiled_picture_is_the_whole_picture(kind: str, tile: tuple[int, int]) -> None:
    vae = MAKERS[kind]()
    children, attributes = parts(vae), set(vae.__dict__)
    latents = noise(2, *LATENTS[kind], 14, 22)
    picture = noise(1, 3, *LATENTS[kind][1:], 112, 176)
    whole, code = decoded(vae, latents), encoded(vae, picture)
    with vae_memory_applied(vae, "1GiB", tile=tile):
        assert difference(decoded(vae, latents), whole) < LIMIT
        assert difference(encoded(vae, picture), code) < LIMIT
    assert torch.equal(decoded(vae, latents), whole)
    assert torch.equal(encoded(vae, picture), code)
    assert (parts(vae), set(vae.__dict__) - {"_conv_num", "_conv_idx", "_feat_map"}) == (
        children, attributes - {"_conv_num", "_conv_idx", "_feat_map"},
    ) or kind in ("wan", "qwen-image")  # which make their caches when they are first called  # fmt: skip


@pytest.mark.parametrize("kind", MAKERS)
def test_a_quarter_of_the_memory_is_enough_and_exact(kind: str) -> None:
    """By the estimate; `python -m benchmarks.vae_memory` measures it on the real sizes."""
    wider = {"base_dim": 8} if kind in ("wan", "qwen-image") else {}  # beside 4 channels the picture itself is much
    vae = MAKERS[kind](**wider)  # type: ignore[operator]
    side = 256
    for estimate, run, given in (
        (decode_memory, decoded, noise(1, *LATENTS[kind], side // 8, side // 8)),
        (encode_memory, encoded, noise(1, 3, *LATENTS[kind][1:], side, side)),
    ):
        needed, _ = estimate(vae, side, side)
        _, plan = estimate(vae, side, side, needed // 4)
        assert plan is not None
        assert plan.peak <= needed // 4
        whole = run(vae, given)
        with vae_memory_applied(vae, needed // 4):
            assert difference(run(vae, given), whole) < LIMIT


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "tile"), [(2, (64, 40)), (3, (24, 10_000))])
def test_a_tiled_video_is_the_whole_video(frames: int, tile: tuple[int, int]) -> None:
    vae = wan_vae()
    latents = noise(1, 4, frames, 11, 14)
    video = noise(1, 3, 1 + 4 * (frames - 1), 88, 112)
    whole, code = decoded(vae, latents), encoded(vae, video)
    assert whole.shape[2] == 1 + 4 * (frames - 1)
    children = parts(vae)
    with vae_memory_applied(vae, "1GiB", tile=tile):
        assert difference(decoded(vae, latents), whole) < LIMIT
        assert difference(encoded(vae, video), code) < LIMIT
        assert difference(decoded(vae, latents[:, :, :1]), decoded(wan_vae(), latents[:, :, :1])) < LIMIT
    assert parts(vae) == children
    assert torch.equal(decoded(vae, latents), whole)


def test_a_video_in_tiles_takes_less_memory_at_once_and_little_more_work() -> None:
    """The most numbers that a module of the last level returns, and those of all its calls."""
    vae, latents = wan_vae(), noise(1, 4, 2, 4, 120)
    returned: list[int] = []

    def look(_module: nn.Module, _args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            returned.append(output.numel())

    for module in vae.decoder.up_blocks[-1].modules():
        module.register_forward_hook(look)
    whole, before = decoded(vae, latents), returned.copy()
    returned.clear()
    with vae_memory_applied(vae, "1GiB", tile=(32, 64)):
        assert difference(decoded(vae, latents), whole) < LIMIT
    assert max(returned) <= max(before) / 4
    assert sum(returned) <= 1.3 * sum(before)


@pytest.mark.parametrize("share", [2, 3])
def test_a_video_within_a_budget_goes_the_way_of_the_least_work(share: int) -> None:
    vae = wan_vae()
    call = VideoCall(vae, None, "_decode")
    call.frames = 3
    estimate = call.estimate(operations_of(vae.decoder, "decoder"), torch.empty(1, 4, 3, 64, 64, device="meta"))
    needed = estimate.whole(1, (64, 64)) // share
    chosen = estimate.tile(1, (64, 64), needed, strict=True)
    peak, work = estimate.of_tile(1, (64, 64), chosen)
    assert peak <= needed
    for other in tile_choices((512, 512)):
        peak, more = estimate.of_tile(1, (64, 64), other)
        assert peak > needed or more >= work


def test_an_exception_in_a_tiled_video_leaves_the_vae_whole() -> None:
    vae, latents = wan_vae(), noise(1, 4, 2, 16, 16)
    whole = decoded(vae, latents)
    with vae_memory_applied(vae, "1GiB", tile=(64, 64)):
        handle = vae.decoder.conv_out.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            decoded(vae, latents)
        handle.remove()
        assert difference(decoded(vae, latents), whole) < LIMIT
    assert torch.equal(decoded(vae, latents), whole)


def test_wan_2_2_whose_shortcuts_are_not_known_is_refused_by_name() -> None:
    vae = wan_vae(is_residual=True, dim_mult=[1, 2, 4, 4])
    with (
        pytest.raises(ModelError, match=r"is a WanResidual(Down|Up)Block, which exact tiling"),
        vae_memory_applied(vae, "1GiB"),
    ):
        pass
    with vae_memory_applied(vae):  # "auto" leaves it alone
        assert decoded(vae, noise(1, 4, 1, 8, 8)).isfinite().all()


def test_half_precision_stays_near() -> None:
    for kind in ("qwen-image", "sana"):
        vae = MAKERS[kind]().to(torch.bfloat16)
        latents = noise(1, *LATENTS[kind], 16, 16).bfloat16()
        whole = decoded(vae, latents)
        with vae_memory_applied(vae, "1GiB", tile=(64, 64)):
            assert difference(decoded(vae, latents), whole) < 0.05


@pytest.mark.parametrize("kind", MAKERS)
def test_a_preview_has_a_pixel_for_each_latent_one(kind: str) -> None:
    vae = MAKERS[kind]()
    latents = noise(1, LATENTS[kind][0], 5, 7)
    assert preview(vae, latents).size == (7, 5)
