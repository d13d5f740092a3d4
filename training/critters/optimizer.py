"""Muon for kernels, AdamW for everything else, behind one small face.

Muon (Jordan et al. 2024, `torch.optim.Muon`) takes matrices only: a convolution's kernel is shown to it as the
matrix (outputs, everything else), which is a view once the kernel lies in `channels_last` memory, where it is moved.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NARROW = 16
"""Matrices with a side smaller than this (first and last layers) stay with AdamW."""


class KernelOptimizer:
    """What a training loop needs of an optimizer: a rate, a step, a state.  Gradients are the module's own."""

    def __init__(self, module: nn.Module, learning_rate: float, muon: bool = False) -> None:
        parameters = list(module.parameters())
        self._kernels = [p for p in parameters if muon and _is_wide(p)]
        for kernel in self._kernels:
            if kernel.ndim == 4:
                kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
        chosen = {id(p) for p in self._kernels}
        rest = [p for p in parameters if id(p) not in chosen]
        self._matrices = [nn.Parameter(_as_matrix(p.data)) for p in self._kernels]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        ]
        if self._matrices:
            self._optimizers.append(
                torch.optim.Muon(
                    self._matrices, learning_rate, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"
                )
            )

    def set_rate(self, rate: float) -> None:
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def step(self) -> None:
        for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
            matrix.grad = None if kernel.grad is None else _as_matrix(kernel.grad)
        for optimizer in self._optimizers:
            optimizer.step()
        for matrix in self._matrices:
            matrix.grad = None

    def state_dict(self) -> list[dict[str, Any]]:
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def _is_wide(parameter: Tensor) -> bool:
    return parameter.ndim in (2, 4) and min(parameter.shape[0], parameter[0].numel()) >= NARROW


def _as_matrix(kernel: Tensor) -> Tensor:
    """`(outputs, inputs, rows, columns)` as `(outputs, rest)`; shares memory where the kernel is `channels_last`."""
    if kernel.ndim == 2:
        return kernel
    return kernel.permute(0, 2, 3, 1).flatten(1)
