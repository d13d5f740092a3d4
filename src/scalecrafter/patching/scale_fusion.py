"""Self-attention of windows and of the whole picture, joined by frequency, on a live U-Net.

Paper: Qiu et al. 2024 (FreeScale, arXiv 2412.09626), section 3.  A hook after each self-attention layer: the layer's
own output is that of the whole picture, and its forward is called once more for each window.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from .._util.sizes import GridSize
from ..ops.scale_fusion import Draw, fused_attention
from ..unet.architecture import find_unet, read_architecture

_ALIKE = 0.1
"""A scale this little above a whole number counts as that."""


@contextmanager
def scale_fused_attention(pipe: Any, native: GridSize, draw: Draw | int = 0) -> Iterator[Any]:
    """For the length of a `with` block, fuse the self-attention of a pipeline's U-Net with that of native windows.

    Latents no larger than `native` on both axes are left alone, to the bit.

    Args:
        pipe: a pipeline with a U-Net, or a bare one.
        native: (height, width) in latent pixels of the finest level: what a window covers.
        draw: whole numbers at random, for the shifts of windows; or the seed of a generator that they come from.
    """
    unet = find_unet(pipe)
    fusion = _Fusion(native, read_architecture(pipe).levels, _seeded(draw) if isinstance(draw, int) else draw)
    layers = [module for module in unet.modules() if getattr(module, "is_cross_attention", None) is False]
    handles = [unet.register_forward_pre_hook(fusion.see_size, with_kwargs=True)]
    # First of the hooks after a layer, so that one which `apply` lets see half of a guided batch is still halved here.
    handles += [layer.register_forward_hook(fusion.fuse, with_kwargs=True, prepend=True) for layer in layers]
    try:
        yield pipe
    finally:
        for handle in handles:
            handle.remove()


class _Fusion(threading.local):
    """The two hooks; each thread sees its own sizes."""

    def __init__(self, native: GridSize, levels: int, draw: Draw) -> None:
        self._native, self._levels, self._draw = native, levels, draw
        self._grids: dict[int, tuple[GridSize, GridSize]] = {}
        self._scale = 1

    def see_size(self, _unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a U-Net call: grid and window of every level, by its number of tokens."""
        sample: Tensor = args[0] if args else kwargs["sample"]
        size = GridSize(*sample.shape[-2:])
        self._scale = max(ceil(now / native - _ALIKE) for now, native in zip(size, self._native, strict=True))
        self._grids = {}
        for level in range(self._levels if self._scale > 1 else 0):
            grid, window = _halved(size, level), _halved(self._native, level)
            window = GridSize(min(window.height, grid.height), min(window.width, grid.width))
            self._grids[grid.height * grid.width] = grid, window

    def fuse(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
        """After a self-attention layer."""
        tokens: Tensor = args[0] if args else kwargs["hidden_states"]
        if tokens.ndim != 3 or tokens.shape[1] not in self._grids:
            return None
        others = {name: value for name, value in kwargs.items() if name != "hidden_states"}

        def attend(part: Tensor) -> Tensor:
            seen: Tensor = layer.forward(part, *args[1:], **others)
            return seen

        grid, window = self._grids[tokens.shape[1]]
        return fused_attention(attend, tokens, output, grid, window, self._scale, self._draw)


def _halved(size: GridSize, level: int) -> GridSize:
    """The size at a level: each halves the one above it, rounding up."""
    return GridSize(ceil(size.height / (1 << level)), ceil(size.width / (1 << level)))


def _seeded(seed: int) -> Draw:
    generator = torch.Generator().manual_seed(seed)
    return lambda low, high: int(torch.randint(low, high + 1, (), generator=generator))
