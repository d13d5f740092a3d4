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


def unconditional_half(value: Any, batch: int, frames: int = 1) -> Any:
    """The first half of everything that is batched in a U-Net's arguments; the rest as it is.

    Args:
        value: a tensor, or tensors in lists, tuples and dictionaries.
        batch: size of the guided batch.
        frames: of a video U-Net, whose arguments may have `batch · frames` rows.
    """
    if isinstance(value, Tensor):
        batched = value.ndim > 0 and value.shape[0] in (batch, batch * frames)
        return value[: value.shape[0] // 2] if batched else value
    if isinstance(value, dict):
        return {key: unconditional_half(item, batch, frames) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(unconditional_half(item, batch, frames) for item in value)
    return value


def own_containers(value: Any) -> Any:
    """The same tensors in lists, tuples and dictionaries of their own: a U-Net takes a T2I-Adapter's list apart."""
    if isinstance(value, dict):
        return {key: own_containers(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(own_containers(item) for item in value)
    return value
