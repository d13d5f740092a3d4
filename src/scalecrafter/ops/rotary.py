"""Rotary positions beyond the trained size: position interpolation, NTK and YaRN.

A rotary embedding of `dim` channels turns its pair i at position p by the angle p · f_i, with f_i = theta^(-2i/dim).
On an axis of s times as many tokens as in training the frequencies below stand in for f_i; where s ≤ 1 they are f_i.
All of it is computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import Literal

import torch
from torch import Tensor

Method = Literal["interpolate", "ntk", "yarn"]


@dataclass(frozen=True)
class PositionScaling:
    """How the frequencies of an axis change with its scale."""

    method: Method = "yarn"
    alpha: float = 1.0
    """YaRN: pairs that turn less often than this over the native axis are interpolated."""
    beta: float = 32.0
    """YaRN: pairs that turn more often than this keep their frequency."""
    factor: float | None = None
    """NTK: theta times this at any scale, with no frequency below interpolation's (I-Max, HiFlow)."""

    def frequencies(self, dim: int, theta: float, scale: float, native: float) -> Tensor:
        """The frequencies of one axis `(dim / 2,)`; `native` is the axis' number of tokens in training."""
        return self.scaled(rotary_frequencies(dim, theta), dim, theta, scale, native)

    def scaled(self, plain: Tensor, dim: int, theta: float, scale: float, native: float) -> Tensor:
        """The same from the frequencies `plain` `(dim / 2,)`, which may be a multiple of theta^(-2i/dim)."""
        if scale <= 1:
            return plain
        if self.method == "interpolate":
            return plain / scale
        if self.method == "ntk" and self.factor is not None:
            return torch.maximum(
                plain * self.factor ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim), plain / scale
            )
        if self.method == "ntk":
            return plain * ntk_factors(dim, theta, scale)
        return yarn_frequencies(plain, scale, native, self.alpha, self.beta)


def rotary_frequencies(dim: int, theta: float) -> Tensor:
    """f_i = theta^(-2i/dim), `(dim / 2,)`."""
    exponents = torch.arange(0, dim, 2, dtype=torch.float64) / dim
    return torch.pow(torch.tensor(theta, dtype=torch.float64), -exponents)


def ntk_factors(dim: int, theta: float, scale: float) -> Tensor:
    """f'_i / f_i for theta' = theta · s^(dim / (dim - 2)), `(dim / 2,)`; one pair alone has nothing to change."""
    if dim <= 2:
        return torch.ones(dim // 2, dtype=torch.float64)
    return rotary_frequencies(dim, theta * scale ** (dim / (dim - 2))) / rotary_frequencies(dim, theta)


def yarn_frequencies(plain: Tensor, scale: float, native: float, alpha: float, beta: float) -> Tensor:
    """YaRN's frequencies (Peng et al. 2023, arXiv 2309.00071, section 3.2).

    r_i = L f_i / 2π is how often pair i turns over the L native tokens; then
    g_i = clip((r_i - alpha) / (beta - alpha), 0, 1) and f'_i = (1 - g_i) f_i / s + g_i f_i.
    """
    turns = native * plain / (2 * pi)
    kept = ((turns - alpha) / (beta - alpha)).clip(0, 1)
    return (1 - kept) * plain / scale + kept * plain


def yarn_magnitude(scale: float) -> float:
    """0.1 ln s + 1, by which YaRN multiplies cos and sin (the same paper, section 3.4); 1 where s ≤ 1."""
    return 0.1 * log(scale) + 1 if scale > 1 else 1.0


def whole_ids(ids: Tensor) -> Tensor:
    """The ids `(tokens, axes)` of one picture in float64; axes 1 and 2 are spatial, its tokens row by row.

    Pipelines keep ids in the type of their weights, and bfloat16 has no odd numbers above 256: a picture of 5120 pixels
    would have every second of its last positions twice.  Such ids are counted anew.
    """
    exact = ids.double()
    if not ids.dtype.is_floating_point or torch.finfo(ids.dtype).bits > 16:
        return exact
    column = exact[:, 2]
    begins = ((column[1:] == column[0]) & (column[:-1] != column[0])).nonzero()
    width = int(begins[0]) + 1 if len(begins) else len(ids)
    if len(ids) % width:
        return exact
    counted = exact.clone()
    place = torch.arange(len(ids), device=ids.device)
    counted[:, 1] = exact[0, 1] + place // width
    counted[:, 2] = exact[0, 2] + place % width
    return counted if torch.equal(counted.to(ids.dtype), ids) else exact
