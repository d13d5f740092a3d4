"""One convolution of a U-Net that can be re-dilated and dispersed while the pipeline runs.

`nn.Conv2d.forward` calls `self._conv_forward(input, self.weight, self.bias)`.  A `ConvolutionPatch` takes that place
on the instance: inside of offloading hooks (the weight that arrives is on the device) and of LoRA wrappers, with no
module replaced, renamed or subclassed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .._util.sizes import Factors
from ..ops.dispersion import disperse_kernel
from ..ops.redilation import UNDILATED, redilated_convolution

_ATTRIBUTE = "_conv_forward"


class ConvolutionPatch:
    """Replaces `_conv_forward` of one convolution; until `set` is called, it does the same."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        self._own = convolution.__dict__.get(_ATTRIBUTE)
        self._stride = _pair(convolution.stride)
        self._padding = _padding(convolution)
        self._kernel_size = convolution.kernel_size[0]
        self._groups = convolution.groups
        self._padding_mode = convolution.padding_mode
        self.factors: Factors | None = None
        """Dilation now; None leaves the convolution as it is."""
        self.transform: Tensor | None = None
        """R of the dispersion that acts now, or None."""
        self._dispersed: tuple[Any, Tensor] | None = None

    def install(self, convolution: nn.Conv2d) -> None:
        """Take the place of `_conv_forward`."""
        self._plain = convolution._conv_forward
        convolution.__dict__[_ATTRIBUTE] = self

    def remove(self, convolution: nn.Conv2d) -> None:
        """Leave the convolution's attributes as `install` found them."""
        if convolution.__dict__.get(_ATTRIBUTE) is self:
            del convolution.__dict__[_ATTRIBUTE]
            if self._own is not None:
                convolution.__dict__[_ATTRIBUTE] = self._own

    def set(self, factors: Factors | None, transform: Tensor | None) -> None:
        """What the next evaluations do.  Ending the dispersion frees its kernel."""
        self.factors, self.transform = factors, transform
        if transform is None:
            self._dispersed = None

    def forget(self) -> None:
        """Compute the dispersed kernel anew at its next use: fusing a LoRA changes weights without a trace."""
        self._dispersed = None

    def __call__(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.transform is not None:
            weight = self._kernel(weight, self.transform)
        elif self.factors is None or self.factors == UNDILATED:
            plain: Tensor = self._plain(features, weight, bias)
            return plain
        return redilated_convolution(
            features,
            weight,
            bias,
            self._stride,
            self._padding,
            self.factors or UNDILATED,
            kernel_size=self._kernel_size,
            groups=self._groups,
            padding_mode=self._padding_mode,
        )

    def _kernel(self, weight: Tensor, transform: Tensor) -> Tensor:
        """The dispersed kernel, computed again when the weight has changed (offloading, a LoRA fused).

        In a compiled graph it is part of the graph: where a weight lies in memory cannot be asked there.
        """
        if torch.compiler.is_compiling():
            return disperse_kernel(weight, transform)
        version = None if weight.is_inference() else weight._version
        key = (weight.data_ptr(), version, weight.dtype, weight.device, id(transform))
        if self._dispersed is None or self._dispersed[0] != key:
            self._dispersed = (key, disperse_kernel(weight, transform))
        return self._dispersed[1]


def _pair(value: Any) -> tuple[int, int]:
    vertical, horizontal = value
    return int(vertical), int(horizontal)


def _padding(convolution: nn.Conv2d) -> tuple[int, int]:
    """Numeric padding; `same` is what it means for an odd kernel, `valid` is none."""
    if convolution.padding == "same":
        return (convolution.kernel_size[0] // 2, convolution.kernel_size[1] // 2)
    if convolution.padding == "valid":
        return (0, 0)
    return _pair(convolution.padding)
