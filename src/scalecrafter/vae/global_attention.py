"""Self-attention of every position of a feature map over all others, in chunks of queries: exact, in bounded memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .feature_map import FeatureMap
from .moments import Moments
from .regions import Region
from .spans import SCORES_BYTES


def attend(
    attention: Any, source: FeatureMap, target: FeatureMap, moments: Moments, rows: int, device: torch.device
) -> Moments:
    """Write what an attention block makes of a map.

    Args:
        attention: a diffusers `Attention` with group norm, as the middle blocks of a VAE have it.
        source: the map that enters.
        target: the map that leaves.
        moments: the statistics of the map that enters.
        rows: rows of the map that are projected at a time.
        device: where to compute.

    Returns:
        The statistics of the map that leaves.
    """
    height, width = source.size
    bands = [Region((top, min(top + rows, height)), (0, width)) for top in range(0, height, rows)]
    keys, values = (None, None)
    for band in bands:
        tokens = _tokens(attention, source.read(band, device), moments)
        key, value = attention.to_k(tokens), attention.to_v(tokens)
        if keys is None or values is None:
            keys, values = (part.new_empty((1, height * width, part.shape[-1])) for part in (key, value))
        span = slice(band.rows[0] * width, band.rows[1] * width)
        keys[:, span], values[:, span] = key, value
    assert keys is not None
    assert values is not None
    keys, values = _heads(attention, keys), _heads(attention, values)
    chunk = max(SCORES_BYTES // (4 * height * width * attention.heads), 16)
    if device.type == "cpu":  # torch's kernel there stores no scores
        chunk = height * width
    added = Moments()
    for band in bands:
        source.free_rows_above(band.rows[0])
        tile = source.read(band, device)
        queries = _heads(attention, attention.to_q(_tokens(attention, tile.clone(), moments)))
        attended = torch.cat(
            [F.scaled_dot_product_attention(part, keys, values) for part in torch.split(queries, chunk, dim=2)], dim=2
        )
        output = attention.to_out[1](attention.to_out[0](attended.transpose(1, 2).flatten(2)))
        output = output.transpose(1, 2).unflatten(2, band.size)
        if attention.residual_connection:
            output = tile.add_(output)
        output = output / attention.rescale_output_factor
        target.write(band, output)
        added.add(output)
    return added


def _tokens(attention: Any, tile: Tensor, moments: Moments) -> Tensor:
    """`(1, positions, channels)` of a tile, normalised; the tile is overwritten."""
    if attention.group_norm is not None:
        tile = moments.normalise(tile, attention.group_norm)
    return tile.flatten(2).transpose(1, 2)


def _heads(attention: Any, tokens: Tensor) -> Tensor:
    """`(1, heads, positions, channels of a head)`."""
    return tokens.view(1, tokens.shape[1], attention.heads, -1).transpose(1, 2)
