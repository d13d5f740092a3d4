"""Noticing that the modules of a U-Net changed, or the weights of some: a LoRA was loaded, fused or unloaded."""

from __future__ import annotations

from collections.abc import Iterable
from operator import methodcaller
from typing import Any

import torch
from torch import nn

_VALUES = methodcaller("values")
_SAMPLES = 8
"""Output and input channels of each weight that are compared."""


class ModuleTree:
    """The modules of a U-Net as they were at the last look.  A look costs some 0.1 ms: it walks no tree."""

    def __init__(self) -> None:
        self.modules: list[tuple[str, nn.Module]] = []
        """All modules with their paths."""
        self.parents: list[tuple[str, nn.Module]] = []
        """Those that have modules in them."""
        self._children: list[dict[str, Any]] = []
        self._known: list[list[Any]] = []

    def changed(self, unet: nn.Module) -> bool:
        """Whether a module was added, removed or replaced since the last look."""
        if self._known and list(map(list, map(_VALUES, self._children))) == self._known:
            return False
        self.modules = list(unet.named_modules())
        self.parents = [(path, module) for path, module in self.modules if module._modules]
        self._children = [module._modules for _, module in self.parents]
        self._known = [list(children.values()) for children in self._children]
        return True


class WeightSamples:
    """A few values of some convolutions' weights: fusing writes through `weight.data`, which leaves no other trace."""

    def __init__(self) -> None:
        self._known: list[float] = []

    def changed(self, convolutions: Iterable[nn.Conv2d]) -> bool:
        """Whether any value differs from the last look."""
        samples = [_sample(convolution.weight) for convolution in convolutions if not convolution.weight.is_meta]
        values = torch.cat(samples).tolist() if samples else []
        changed, self._known = values != self._known, values
        return changed


def _sample(weight: Any) -> torch.Tensor:
    outputs, inputs = (max(size // _SAMPLES, 1) for size in weight.shape[:2])
    taps: torch.Tensor = weight.detach()[::outputs, ::inputs, weight.shape[2] // 2, weight.shape[3] // 2]
    return taps.float().flatten()
