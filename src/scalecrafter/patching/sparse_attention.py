"""Self-attention of chosen levels over fewer tokens: windows, phases, or pooled keys and values.

The hooks are on the attention modules, before and after their own forward, so that any attention processor, LoRA or
offloading does its part.  Tokens are rearranged (`ops/tokens.py`) before normalised features are projected.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._util.sizes import GridSize
from ..ops.tokens import join_tokens, pooled_tokens, split_tokens
from ..unet.architecture import find_unet

_QUARTERS = 4
"""A shift is none, one, two or three quarters of a window, drawn anew for each layer and call (HiDiffusion)."""


@dataclass(frozen=True)
class Sparse:
    """What the self-attention of a level does."""

    kind: Literal["windows", "phases", "pooled"]
    side: int | None = None
    """Of windows and phases: about how many tokens of a side they have.  None: half of the grid."""
    shifts: bool = False
    """Of windows: whether they shift at random."""

    def parts(self, grid: GridSize) -> tuple[int, int]:
        """How many rows and columns of windows or phases a grid has."""
        if self.side is None:
            return 2, 2
        return max(round(grid.height / self.side), 1), max(round(grid.width / self.side), 1)


@contextmanager
def sparse_attention(pipe: Any, levels: Mapping[int, Sparse], seed: int = 0) -> Iterator[Any]:
    """For the length of a `with` block, let the self-attention of these levels see fewer tokens.

    Args:
        pipe: a pipeline with a U-Net, or a bare one.
        levels: 0 is the finest.  Levels without attention stay as they are.
        seed: of the random shifts, which are drawn from a generator of their own.
    """
    unet = find_unet(pipe)
    sizes, handles = _Size(), list[RemovableHandle]()
    generator = torch.Generator().manual_seed(seed)
    handles.append(unet.register_forward_pre_hook(sizes.see, with_kwargs=True))
    for level, sparse in levels.items():
        for attention in self_attentions(unet, level):
            hooks = _Hooks(sparse, sizes, generator)
            handles.append(attention.register_forward_pre_hook(hooks.before, with_kwargs=True))
            handles.append(attention.register_forward_hook(hooks.after))
    try:
        yield pipe
    finally:
        for handle in handles:
            handle.remove()


def self_attentions(unet: nn.Module, level: int) -> list[nn.Module]:
    """The self-attention modules of a level, on the way down and up; the deepest has the middle block's as well."""
    down, up = (cast(nn.ModuleList, part) for part in (unet.down_blocks, unet.up_blocks))
    count = len(down)
    blocks = [down[level], up[count - 1 - level]]
    if level == count - 1 and isinstance(unet.mid_block, nn.Module):
        blocks.append(unet.mid_block)
    return [one for block in blocks for one in block.modules() if _is_self_attention(one)]


def finest_attention(unet: nn.Module) -> int:
    """The finest level that has self-attention; the deepest where none has."""
    count = len(unet.down_blocks)  # type: ignore[arg-type]
    return next((level for level in range(count) if self_attentions(unet, level)), count - 1)


def _is_self_attention(module: nn.Module) -> bool:
    return hasattr(module, "to_q") and getattr(module, "is_cross_attention", None) is False


class _Size(threading.local):
    """The size of the latents that this thread's call has."""

    grid = GridSize(0, 0)

    def see(self, _unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a U-Net call."""
        sample: Tensor = args[0] if args else kwargs["sample"]
        self.grid = GridSize(sample.shape[-2], sample.shape[-1])

    def of(self, tokens: int) -> GridSize | None:
        """The grid that has so many tokens; None where it is none of this call's."""
        height, width = self.grid
        step = round((height * width / tokens) ** 0.5)
        grid = GridSize(ceil(height / step), ceil(width / step)) if step else GridSize(0, 0)
        return grid if grid.height * grid.width == tokens else None


class _Hooks(threading.local):
    """Before and after one attention module."""

    def __init__(self, sparse: Sparse, sizes: _Size, generator: torch.Generator) -> None:
        self._sparse, self._sizes, self._generator = sparse, sizes, generator
        self._undo: tuple[GridSize, tuple[int, int], tuple[int, int]] | None = None

    def before(self, _attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Fewer tokens."""
        self._undo = None
        if not args or kwargs.get("encoder_hidden_states") is not None or kwargs.get("attention_mask") is not None:
            return None
        tokens, sparse = args[0], self._sparse
        grid = self._sizes.of(tokens.shape[1])
        if grid is None:
            return None
        if sparse.kind == "pooled":
            return args, {**kwargs, "encoder_hidden_states": pooled_tokens(tokens, grid)}
        parts = sparse.parts(grid)
        shift = self._shift(grid, parts)
        self._undo = grid, parts, shift
        return (split_tokens(tokens, grid, parts, sparse.kind, shift), *args[1:]), kwargs

    def after(self, _attention: nn.Module, _args: Any, output: Tensor) -> Tensor | None:
        """All tokens again."""
        if self._undo is None or self._sparse.kind == "pooled":
            return None
        return join_tokens(output, self._undo[0], self._undo[1], self._sparse.kind, self._undo[2])

    def _shift(self, grid: GridSize, parts: tuple[int, int]) -> tuple[int, int]:
        if not self._sparse.shifts:
            return 0, 0
        quarters = int(torch.randint(_QUARTERS, (), generator=self._generator))
        down, across = (ceil(side / count) // _QUARTERS * quarters for side, count in zip(grid, parts, strict=True))
        return down, across
