"""Attention over fewer tokens, and deep features at a coarser grid: what they compute, and that they leave nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from scalecrafter._util.sizes import GridSize
from scalecrafter.ops.tokens import join_tokens, pooled_tokens, split_tokens
from scalecrafter.patching.coarse_features import Coarse, coarse_features
from scalecrafter.patching.sparse_attention import Sparse, self_attentions, sparse_attention
from tests.support.tiny_models import tiny_sd_unet, tiny_sdxl_unet
from tests.support.unet_state import assert_untouched, attributes


def numbered(grid: GridSize) -> Tensor:
    """Tokens `(2, height · width, 1)` that say where they are."""
    return torch.arange(2.0 * grid.height * grid.width).reshape(2, -1, 1)


@pytest.mark.parametrize("cut", ["windows", "phases"])
@pytest.mark.parametrize("grid", [GridSize(8, 12), GridSize(7, 9), GridSize(5, 4)])
@pytest.mark.parametrize("shift", [(0, 0), (3, 1)])
def test_joined_tokens_are_the_ones_that_were_split(
    cut: Literal["windows", "phases"], grid: GridSize, shift: tuple[int, int]
) -> None:
    split = split_tokens(numbered(grid), grid, (2, 3), cut, shift)
    assert split.shape[0] == 2 * 6
    assert torch.equal(join_tokens(split, grid, (2, 3), cut, shift), numbered(grid))


def test_windows_are_neighbours_and_phases_are_every_second_token() -> None:
    grid = GridSize(4, 4)
    windows, phases = (split_tokens(numbered(grid)[:1], grid, (2, 2), cut) for cut in ("windows", "phases"))
    assert windows[1].flatten().tolist() == [2, 3, 6, 7]
    assert phases[1].flatten().tolist() == [1, 3, 9, 11]


def test_pooled_tokens_are_means_also_at_an_odd_end() -> None:
    grid = GridSize(2, 3)
    assert pooled_tokens(numbered(grid)[:1], grid).flatten().tolist() == [(0 + 1 + 3 + 4) / 4, (2 + 5) / 2]


def call(unet: Any, side: tuple[int, int] = (32, 32), timestep: int = 900) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    sample, text = torch.randn(2, 4, *side, generator=generator), torch.randn(2, 7, 32, generator=generator)
    found: Tensor = unet(sample, torch.tensor(timestep), text).sample
    return found


@pytest.mark.parametrize("kind", ["windows", "phases", "pooled"])
def test_attention_sees_what_it_is_told(kind: Literal["windows", "phases", "pooled"]) -> None:
    """Against the attention module run by hand on the parts."""
    unet, grid = tiny_sd_unet(), GridSize(32, 32)
    attention = self_attentions(unet, 0)[0]
    seen: list[Tensor] = []
    handle = attention.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    plain = call(unet)
    handle.remove()
    with torch.no_grad():
        if kind == "pooled":
            expected = attention(seen[0], encoder_hidden_states=pooled_tokens(seen[0], grid))
        else:
            parts = split_tokens(seen[0], grid, (2, 2), kind)
            expected = join_tokens(torch.cat([attention(part[None]) for part in parts]), grid, (2, 2), kind)
    before, outputs = attributes(unet), list[Tensor]()
    with sparse_attention(unet, {0: Sparse(kind)}):
        handle = attention.register_forward_hook(lambda _module, _args, output: outputs.append(output))
        changed = call(unet)
        handle.remove()
    torch.testing.assert_close(outputs[0], expected)
    assert not torch.allclose(changed, plain, rtol=1e-3, atol=1e-3)
    assert_untouched(before, unet)
    assert torch.equal(call(unet), plain)


def test_random_shifts_can_be_repeated() -> None:
    unet = tiny_sd_unet()

    def shifted(seed: int) -> Tensor:
        with sparse_attention(unet, {0: Sparse("windows", shifts=True)}, seed):
            return call(unet)

    assert torch.equal(shifted(1), shifted(1))
    assert not torch.equal(shifted(1), shifted(2))


PLACES = {
    "a sampler": [Coarse("sampler", 0, 0.5)],
    "a pair": [Coarse("pair", 1, 0.5)],
    "both": [Coarse("sampler", 0, 0.5), Coarse("pair", 1, 0.5)],
}


@pytest.mark.sampled
@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("side", [(32, 32), (40, 24), (37, 30)])
def test_deep_features_are_coarser_in_their_part_of_the_trajectory(places: list[Coarse], side: tuple[int, int]) -> None:
    unet = tiny_sd_unet()
    plain, late = call(unet, side), call(unet, side, timestep=100)
    sizes: list[int] = []
    before = attributes(unet)
    with coarse_features(unet, places):
        handle = unet.mid_block.register_forward_pre_hook(lambda _module, args: sizes.append(args[0].shape[-2]))
        coarse = call(unet, side)
        assert torch.equal(call(unet, side, timestep=100), late)
        handle.remove()
    assert coarse.shape == plain.shape
    assert not torch.allclose(coarse, plain, rtol=1e-2, atol=1e-2)
    assert sizes[0] <= -(-sizes[1] // 2)
    assert_untouched(before, unet)


def test_coarser_features_come_back_in_a_unet_of_three_levels() -> None:
    unet: nn.Module = tiny_sdxl_unet(addition_embed_type=None, projection_class_embeddings_input_dim=None)
    both: AbstractContextManager[Any] = coarse_features(unet, [Coarse("sampler", 1, 1.0), Coarse("pair", 1, 1.0)])
    with both:
        assert call(unet, (40, 56)).shape == (2, 4, 40, 56)
