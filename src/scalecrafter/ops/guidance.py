"""Noise-damped classifier-free guidance on one U-Net call.

Paper: He et al. 2024 (arXiv 2310.07702), section 3.4, equation 8::

    ε = ε_strong(x, ∅) + w · (ε_structure(x, y) − ε_structure(x, ∅))

The pipeline itself computes `u + w · (c − u)` from the pair (u, c) that its U-Net returns.  Returning
`u_strong` and `u_strong + (c − u)` instead makes that the equation above, for one extra unconditional half-batch
and without touching the pipeline.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def damped_pair(structure: Tensor, strong_unconditional: Tensor, channels: int | None = None) -> Tensor:
    """The pair to return for a guided batch.

    Args:
        structure: `(2·batch, …)`, the structure-aware denoiser's unconditional half and then its conditional half.
        strong_unconditional: `(batch, …)`, the strong denoiser's unconditional half.
        channels: how many of the channels are damped; the rest (a learned variance) is the structure-aware denoiser's.
    """
    unconditional, conditional = structure.chunk(2)
    damped = torch.cat([strong_unconditional, strong_unconditional + (conditional - unconditional)])
    if channels is None or channels == structure.shape[1]:
        return damped
    return torch.cat([damped[:, :channels], structure[:, channels:]], dim=1)


def rescaled_pair(pair: Tensor, scale: float, rescale: float) -> Tensor:
    """The pair to return so that a pipeline's guidance gives rescaled guidance.

    Lin et al. 2024 (arXiv 2305.08891), section 3.4: with g = u + scale · (c − u), the prediction is
    rescale · g · std(c) / std(g) + (1 − rescale) · g, deviations over all of one picture.  Both halves are that.

    Args:
        pair: `(2·batch, …)`, the unconditional half and then the conditional one.
        scale: the pipeline's guidance scale.
        rescale: 0 (plain guidance) to 1.
    """
    unconditional, conditional = pair.chunk(2)
    guided = unconditional + scale * (conditional - unconditional)
    axes = tuple(range(1, pair.ndim))
    of_guided, of_conditional = (half.std(axes, keepdim=True) for half in (guided, conditional))
    mixed = rescale * guided * (of_conditional / of_guided) + (1 - rescale) * guided
    return torch.cat([mixed, mixed])


def unconditional_half(value: Any, batch: int, frames: int = 1) -> Any:
    """The first half of everything that is batched in a U-Net's arguments; the rest as it is.

    Args:
        value: a tensor, or tensors in lists, tuples and dictionaries.
        batch: size of the guided batch.
        frames: of a video U-Net, whose arguments may have `batch · frames` rows.
    """
    return _half(value, 0, (batch, batch * frames))


def conditional_half(value: Any, batch: int) -> Any:
    """The second half, likewise."""
    return _half(value, 1, (batch,))


def _half(value: Any, which: int, sizes: tuple[int, ...]) -> Any:
    if isinstance(value, Tensor):
        batched = value.ndim > 0 and value.shape[0] in sizes
        return value.chunk(2)[which] if batched else value
    if isinstance(value, dict):
        return {key: _half(item, which, sizes) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_half(item, which, sizes) for item in value)
    return value


def own_containers(value: Any) -> Any:
    """The same tensors in lists, tuples and dictionaries of their own: a U-Net takes a T2I-Adapter's list apart."""
    if isinstance(value, dict):
        return {key: own_containers(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(own_containers(item) for item in value)
    return value
