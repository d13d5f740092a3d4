"""A U-Net in the layout of the original checkpoints, as far as its module tree: built from names and tensors alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Part(nn.Module):
    """A module with named parts; a number as a name can be used as an index, as in a list."""

    def _sorted(self) -> list[nn.Module]:
        parts = dict(self.named_children())
        return [parts[name] for name in sorted(parts, key=lambda name: int(name) if name.isdecimal() else 0)]

    def __getitem__(self, index: int) -> nn.Module:
        return self._sorted()[index]

    def __len__(self) -> int:
        return len(self._sorted())

    def __iter__(self) -> Any:
        return iter(self._sorted())


def original_module(state: dict[str, Tensor]) -> nn.Module:
    """The module tree of a state: convolutions where weights have four axes, else plain parameters."""
    root = Part()
    for name, tensor in state.items():
        *path, last = name.split(".")
        if last == "weight" and tensor.ndim == 4:
            out, into, *kernel = tensor.shape
            stride = 2 if path[-1] == "op" else 1
            convolution = nn.Conv2d(into, out, tuple(kernel), padding=kernel[0] // 2, stride=stride)  # type: ignore[arg-type]
            convolution.weight = nn.Parameter(tensor, requires_grad=False)
            _part(root, path[:-1]).add_module(path[-1], convolution)
        elif last != "bias" or f"{'.'.join(path)}.weight" not in state or state[f"{'.'.join(path)}.weight"].ndim != 4:
            _part(root, path).register_parameter(last, nn.Parameter(tensor, requires_grad=False))
    for name, tensor in state.items():
        *path, last = name.split(".")
        place = root.get_submodule(".".join(path))
        if last == "bias" and isinstance(place, nn.Conv2d):
            place.bias = nn.Parameter(tensor, requires_grad=False)
    return root


def _part(root: nn.Module, path: list[str]) -> nn.Module:
    for name in path:
        if name not in dict(root.named_children()):
            root.add_module(name, Part())
        root = root.get_submodule(name)
    return root


def equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)
