"""The observer's network: a small convolutional pyramid that ends in heat maps and attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

STRIDE = 4
"""Picture pixels a cell of the heat maps."""
REDUCTION = 32
"""Sides of pictures are multiples of this."""


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the network."""

    kinds: int
    """Heat maps; the first is that of whole animals."""
    attributes: tuple[int, ...]
    """The number of classes of each attribute."""
    widths: tuple[int, int, int, int] = (32, 64, 128, 192)
    """Channels at strides 4, 8, 16 and 32."""
    features: int = 96
    """Channels of the features at stride 16; the feature vector has twice as many numbers."""


class Seen(NamedTuple):
    """The network's output for a batch."""

    heat: Tensor
    """Logits `(batch, kinds, height / 4, width / 4)`."""
    attributes: tuple[Tensor, ...]
    """Logits `(batch, classes)`, an attribute each."""
    features: Tensor
    """`(batch, 2 · features)`: the mean over the animals, then over the whole picture."""


class Unit(nn.Module):
    """Convolution, batch normalisation, and ReLU; `fuse` folds the normalisation into the convolution for good."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, active: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.convolution(x))
        return F.relu(x) if self.active else x

    def fuse(self) -> None:
        if isinstance(self.norm, nn.BatchNorm2d):
            self.convolution = fuse_conv_bn_eval(self.convolution, self.norm)
            self.norm = nn.Identity()


class ResidualBlock(nn.Module):
    """Two units with a way past them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = Unit(width, width), Unit(width, width, active=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class ObserverNetwork(nn.Module):
    """Pictures `(batch, 3, height, width)` in -1…1, sides multiples of 32, to `Seen`."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        a, b, c, d = settings.widths
        wide = settings.features
        self.stem = nn.Sequential(Unit(12, a // 2 + 8), Unit(a // 2 + 8, a, stride=2))
        self.level4 = ResidualBlock(a)
        self.level8 = nn.Sequential(Unit(a, b, stride=2), ResidualBlock(b), ResidualBlock(b))
        self.level16 = nn.Sequential(Unit(b, c, stride=2), ResidualBlock(c), ResidualBlock(c))
        self.level32 = nn.Sequential(Unit(c, d, stride=2), ResidualBlock(d))
        self.across32 = Unit(d, wide, 1)
        self.across16, self.join16 = Unit(c, wide, 1), Unit(wide, wide)
        self.across8, self.down8, self.join8 = Unit(b, b, 1), Unit(wide, b, 1), Unit(b, b)
        self.across4, self.down4, self.join4 = Unit(a, a, 1), Unit(b, a, 1), Unit(a, a + 16)
        self.heat = nn.Conv2d(a + 16, settings.kinds, 1)
        self.attributes = nn.ModuleList(nn.Linear(2 * wide, classes) for classes in settings.attributes)
        assert self.heat.bias is not None
        nn.init.constant_(self.heat.bias, -4.0)  # nearly nothing is a peak

    def forward(self, pictures: Tensor) -> Seen:
        at4 = self.level4(self.stem(F.pixel_unshuffle(pictures, 2)))
        at8 = self.level8(at4)
        at16 = self.level16(at8)
        top = self.across32(self.level32(at16))
        top = self.join16(self.across16(at16) + F.interpolate(top, scale_factor=2.0))
        middle = self.join8(self.across8(at8) + F.interpolate(self.down8(top), scale_factor=2.0))
        fine = self.join4(self.across4(at4) + F.interpolate(self.down4(middle), scale_factor=2.0))
        heat = self.heat(fine)
        weight = F.max_pool2d(heat[:, :1].detach().float().sigmoid(), 4) + 1e-3
        weight = weight / weight.sum((2, 3), keepdim=True)
        features = torch.cat([(top * weight).sum((2, 3)), top.float().mean((2, 3))], 1)
        return Seen(heat, tuple(head(features) for head in self.attributes), features)

    def fuse(self) -> ObserverNetwork:
        """Fold every normalisation into its convolution: the form that is stored.  Training ends here."""
        self.eval()
        for module in self.modules():
            if isinstance(module, Unit):
                module.fuse()
        return self
