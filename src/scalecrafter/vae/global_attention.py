"""Attention of every position of a feature map over all others, in chunks of queries: exact, in bounded memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .causal import FrameAttention
from .deep_compression import LinearAttention
from .feature_map import FeatureMap
from .moments import Moments
from .operations import Attention
from .regions import Region
from .spans import SCORES_BYTES


def attend(
    operation: Attention,
    source: FeatureMap,
    target: FeatureMap,
    moments: Moments | None,
    rows: int,
    device: torch.device,
) -> Moments:
    """Write what an attention block makes of a map.

    Args:
        operation: the block.
        source: the map that enters.
        target: the map that leaves.
        moments: the statistics of the map that enters, where the block needs them.
        rows: rows of the map that are projected at a time.
        device: where to compute.

    Returns:
        The statistics of the map that leaves.
    """
    bands = _bands(source, rows)
    if isinstance(operation, LinearAttention):
        return _attend_linearly(operation, source, target, bands, device)
    height, width = source.size
    block = (
        _FrameBlock(operation.module) if isinstance(operation, FrameAttention) else _Block(operation.module, moments)
    )
    keys, values = (None, None)
    for band in bands:
        key, value = block.keys_values(source.read(band, device))
        if keys is None or values is None:
            keys, values = (part.new_empty((1, height * width, part.shape[-1])) for part in (key, value))
        span = slice(band.rows[0] * width, band.rows[1] * width)
        keys[:, span], values[:, span] = key, value
    assert keys is not None
    assert values is not None
    keys, values = (_heads(each, block.heads) for each in (keys, values))
    chunk = max(SCORES_BYTES // (4 * height * width * block.heads), 16)
    if device.type == "cpu":  # torch's kernel there stores no scores
        chunk = height * width
    added = Moments()
    for band in bands:
        source.free_rows_above(band.rows[0])
        tile = source.read(band, device)
        queries = _heads(block.queries(tile), block.heads)
        attended = torch.cat(
            [F.scaled_dot_product_attention(part, keys, values) for part in torch.split(queries, chunk, dim=2)], dim=2
        )
        output = block.output(attended.transpose(1, 2).flatten(2), tile)
        target.write(band, output)
        added.add(output)
    return added


class _Block:
    """A diffusers `Attention` with group norm, as the middle blocks of AutoencoderKL have it."""

    def __init__(self, attention: Any, moments: Moments | None) -> None:
        self._attention, self._moments = attention, moments
        self.heads: int = attention.heads

    def _tokens(self, tile: Tensor) -> Tensor:
        """`(1, positions, channels)` of a tile, normalised; the tile is overwritten."""
        if self._attention.group_norm is not None:
            assert self._moments is not None
            tile = self._moments.normalise(tile, self._attention.group_norm)
        return tile.flatten(2).transpose(1, 2)

    def keys_values(self, tile: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self._tokens(tile)
        return self._attention.to_k(tokens), self._attention.to_v(tokens)

    def queries(self, tile: Tensor) -> Tensor:
        queries: Tensor = self._attention.to_q(self._tokens(tile.clone()))
        return queries

    def output(self, attended: Tensor, tile: Tensor) -> Tensor:
        attention = self._attention
        output = attention.to_out[1](attention.to_out[0](attended)).transpose(1, 2).unflatten(2, tile.shape[2:])
        if attention.residual_connection:
            output = tile.add_(output)
        result: Tensor = output / attention.rescale_output_factor
        return result


class _FrameBlock:
    """The attention of a video VAE."""

    heads = 1

    def __init__(self, attention: Any) -> None:
        self._attention = attention

    def _projections(self, tile: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each `(1, positions, channels)`."""
        tokens = self._attention.to_qkv(self._attention.norm(tile)).flatten(2).transpose(1, 2)
        return tuple(tokens.chunk(3, dim=-1))

    def keys_values(self, tile: Tensor) -> tuple[Tensor, Tensor]:
        _, keys, values = self._projections(tile)
        return keys, values

    def queries(self, tile: Tensor) -> Tensor:
        return self._projections(tile)[0].contiguous()

    def output(self, attended: Tensor, tile: Tensor) -> Tensor:
        made = self._attention.proj(torch.unflatten(attended.transpose(1, 2), 2, tile.shape[2:]))
        return tile.add_(made)


def _attend_linearly(
    operation: LinearAttention, source: FeatureMap, target: FeatureMap, bands: list[Region], device: torch.device
) -> Moments:
    """Σ v kᵀ over the whole map first, with a row of ones below v for the sum of the weights; then each position."""
    attention, halo = operation.module, operation.halo
    sums: Tensor | None = None
    for band in bands:
        _, keys, values = _projections(attention, source, band, halo, device)
        part = F.pad(values, (0, 0, 0, 1), value=1.0) @ keys.transpose(-1, -2)
        sums = part if sums is None else sums + part
    assert sums is not None
    added = Moments()
    for band in bands:
        source.free_rows_above(band.rows[0] - halo)
        queries, _, _ = _projections(attention, source, band, halo, device)
        made = sums @ queries
        tile = source.read(band, device)
        output = (made[:, :, :-1] / (made[:, :, -1:] + attention.eps)).reshape(1, -1, *band.size).to(tile.dtype)
        output = attention.to_out(output.movedim(1, -1))
        if attention.norm_type == "rms_norm":
            output = attention.norm_out(output).movedim(-1, 1)
        else:
            output = attention.norm_out(output.movedim(-1, 1))
        if attention.residual_connection:
            output = tile.add_(output)
        target.write(band, output)
        added.add(output)
    return added


def _projections(
    attention: Any, source: FeatureMap, band: Region, halo: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a band, each `(1, heads, channels, positions)` in float32."""
    top, bottom = band.rows
    seen = Region((max(top - halo, 0), min(bottom + halo, source.size[0])), band.columns)
    tokens = source.read(seen, device).movedim(1, -1)
    joined = torch.cat([attention.to_q(tokens), attention.to_k(tokens), attention.to_v(tokens)], dim=3).movedim(-1, 1)
    rows, columns = band.inside(seen)
    scales = [joined, *(block(joined) for block in attention.to_qkv_multiscale)]
    every = torch.cat([scale[:, :, rows, columns] for scale in scales], dim=1).float()
    split = every.reshape(1, -1, 3 * attention.attention_head_dim, band.pixels)
    queries, keys, values = split.chunk(3, dim=2)
    return attention.nonlinearity(queries), attention.nonlinearity(keys), values


def _bands(source: FeatureMap, rows: int) -> list[Region]:
    height, width = source.size
    return [Region((top, min(top + rows, height)), (0, width)) for top in range(0, height, rows)]


def _heads(tokens: Tensor, heads: int) -> Tensor:
    """`(1, heads, positions, channels of a head)`."""
    return tokens.view(1, tokens.shape[1], heads, -1).transpose(1, 2)
