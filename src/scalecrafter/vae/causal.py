"""VAEs of videos (Wan, Qwen-Image) on one picture: what their causal 3-D layers do to a first frame.

Nothing lies before a first frame but zeros.  So of a causal convolution's kernel only the last frame counts, which is
a third of the arithmetic, and the layers that resample time do not act yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .operations import Attention, Pointwise, is_untouched
from .regions import Region

_CHUNKS = {"cpu": 1 << 19}
"""Numbers that are normalised at a time; on other devices four million."""


class FrameConvolution:
    """A causal 3-D convolution on one frame, with what is asked of a 2-D one."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.in_channels, self.out_channels, self.groups = module.in_channels, module.out_channels, module.groups
        self.kernel_size, self.stride, self.dilation = (
            tuple(each[1:]) for each in (module.kernel_size, module.stride, module.dilation)
        )
        left, _, top, _, *_ = module._padding
        self.padding = (top, left)
        self.padding_mode = "zeros"

    @property
    def weight(self) -> Tensor:
        """`(out, in, height, width)`."""
        weight: Tensor = self.module.weight[:, :, -1]
        return weight

    def __call__(self, tile: Tensor) -> Tensor:
        if is_untouched(self.module) and not self.module.weight.is_meta:
            return F.conv2d(tile, self.weight, self.module.bias, self.stride, self.padding, self.dilation, self.groups)
        output: Tensor = self.module(tile.unsqueeze(2))
        return output.squeeze(2)


@dataclass(frozen=True)
class ChannelNorm(Pointwise):
    """A module that normalises each position over its channels, with no statistics of the map."""

    layout: str = "frames"
    """What the module takes: "frames" `(1, channels, 1, height, width)`, "map" without the 1, or "last" with the
    channels last."""

    def run(self, tile: Tensor, covers: Region, wanted: Region) -> Tensor:  # noqa: ARG002
        rows = max(_CHUNKS.get(tile.device.type, 1 << 22) // (tile.shape[1] * tile.shape[3]), 1)
        for part in torch.split(tile, rows, dim=2):
            if self.layout == "frames":
                part.copy_(self.module(part.unsqueeze(2)).squeeze(2))
            elif self.layout == "last":
                part.copy_(self.module(part.movedim(1, -1)).movedim(-1, 1))
            else:
                part.copy_(self.module(part))
        return tile


@dataclass(frozen=True)
class FrameAttention(Attention):
    """The attention of a video VAE's middle block: each frame's own positions, one head, normalised by position."""

    needs_statistics = False
