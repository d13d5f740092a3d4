"""One convolution, re-dilated: whole or fractional factors, each axis its own.

Paper: He et al. 2024 (arXiv 2310.07702), section 3.2, equations 2 and 3.
"""

from __future__ import annotations

from math import ceil

import torch.nn.functional as F
from torch import Tensor

from .._util.sizes import Factors

UNDILATED: Factors = (1.0, 1.0)


def redilated_convolution(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    factors: Factors,
    kernel_size: int | None = None,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Tensor:
    """A convolution whose taps lie `factors` apart.

    A whole factor d is one convolution with dilation d.  A fractional one stretches the feature map by ceil(d)/d,
    convolves with dilation ceil(d), and shrinks the result back; only the axes that need it are resized.

    Args:
        features: `(batch, in_channels, height, width)`.
        weight: `(out_channels, in_channels / groups, k, k)`; a dispersed kernel is simply a larger one.
        bias: `(out_channels,)` or None.
        stride: as the convolution has it.
        padding: as the convolution has it for its own kernel, undilated.
        factors: dilation (vertical, horizontal), above 0.
        kernel_size: side of the convolution's own kernel, to which `padding` belongs; that of `weight` by default.
        groups: as the convolution has it.
        padding_mode: as the convolution has it.

    Returns:
        `(batch, out_channels, height, width)` of the size that the undilated convolution gives.
    """
    own = kernel_size or weight.shape[-1]
    dilation = (ceil(factors[0]), ceil(factors[1]))
    grown = tuple(p + (d * (weight.shape[-1] - 1) - (own - 1)) // 2 for p, d in zip(padding, dilation, strict=True))
    height, width = features.shape[-2:]
    stretched = (round(height * dilation[0] / factors[0]), round(width * dilation[1] / factors[1]))
    if stretched == (height, width):
        return _convolve(features, weight, bias, stride, grown, dilation, groups, padding_mode)
    size = tuple((n + 2 * p - own) // s + 1 for n, p, s in zip((height, width), padding, stride, strict=True))
    features = F.interpolate(features, stretched, mode="bilinear", align_corners=False)
    output = _convolve(features, weight, bias, stride, grown, dilation, groups, padding_mode)
    return F.interpolate(output, size, mode="bilinear", align_corners=False)


def _convolve(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, ...],
    dilation: tuple[int, int],
    groups: int,
    padding_mode: str,
) -> Tensor:
    if padding_mode != "zeros":
        features = F.pad(features, (padding[1], padding[1], padding[0], padding[0]), mode=padding_mode)
        padding = (0, 0)
    return F.conv2d(features, weight, bias, stride, padding, dilation, groups)
