"""Random weights for architectures that are only timed."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """Weights that repeat one block of noise and keep values O(1): drawing 2.6 billion takes long on a CPU."""
    parameter = next(module.parameters())
    block = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).to(parameter.device, parameter.dtype)
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2:
            parameter.fill_(float(name.endswith("weight")))
            continue
        scale = (parameter.numel() // parameter.shape[0]) ** -0.5
        for piece in torch.split(parameter.view(-1), len(block)):
            torch.mul(block[: len(piece)], scale, out=piece)
