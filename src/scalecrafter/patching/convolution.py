"""One convolution of a U-Net that can be re-dilated and dispersed while the pipeline runs.

`nn.Conv2d.forward` calls `self._conv_forward(input, self.weight, self.bias)`.  A `ConvolutionPatch` takes that place
on the instance: inside of offloading hooks (the weight that arrives is on the device) and of LoRA wrappers, with no
module replaced, renamed or subclassed.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .._util.sizes import Factors
from ..errors import ModelError
from ..ops.dispersion import disperse_kernel
from ..ops.redilation import UNDILATED, redilated_convolution
from .per_thread import PerThread

_ATTRIBUTE = "_conv_forward"


class _State:
    """What a convolution does."""

    factors: Factors | None = None
    """Dilation; None leaves the convolution as it is."""
    transform: Tensor | None = None
    """R of the dispersion, or None."""
    ran: bool = False
    """Whether the patch was asked since `set`."""


class ConvolutionPatch:
    """Replaces `_conv_forward` of one convolution; until `set` is called, it does the same."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        self._convolution = convolution
        self._own = convolution.__dict__.get(_ATTRIBUTE)
        self._state = PerThread(_State)
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
        """What this thread's next evaluations do.  Ending the dispersion frees its kernel."""
        self._state.set(factors=factors, transform=transform)
        if transform is None:
            self._dispersed = None

    @property
    def was_skipped(self) -> bool:
        """Whether it should have changed an evaluation of this thread, and was not asked since `set`."""
        now = self._state.now
        changes = now.transform is not None or now.factors not in (None, UNDILATED)
        return changes and not any(state.ran for state in self._state.both)

    @property
    def foreign(self) -> Any:
        """What somebody else has put in the place of `_conv_forward`, before `install` or after; None for nothing."""
        if self._own is not None:
            return self._own
        now = self._convolution.__dict__.get(_ATTRIBUTE)
        return None if now is self else now

    def forget(self) -> None:
        """Compute the dispersed kernel anew at its next use."""
        self._dispersed = None

    def __reduce__(self) -> Any:
        raise refused_pickle()

    def __deepcopy__(self, memo: dict[int, Any]) -> ConvolutionPatch:
        twin = memo[id(self)] = object.__new__(type(self))
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __call__(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        now = self._state.now
        factors, transform, now.ran = now.factors, now.transform, True
        if transform is not None:
            weight = self._kernel(weight, transform)
        elif factors is None or factors == UNDILATED:
            plain: Tensor = self._plain(features, weight, bias)
            return plain
        convolution = self._convolution
        return redilated_convolution(
            features,
            weight,
            bias,
            _pair(convolution.stride),
            _padding(convolution),
            factors or UNDILATED,
            kernel_size=convolution.kernel_size[0],
            groups=convolution.groups,
            padding_mode=convolution.padding_mode,
        )

    def _kernel(self, weight: Tensor, transform: Tensor) -> Tensor:
        """The dispersed kernel, computed again when the weight has changed (offloading, a LoRA fused).

        In a compiled graph it is part of the graph: where a weight lies in memory cannot be asked there.
        """
        if torch.compiler.is_compiling():
            return disperse_kernel(weight, transform)
        version = None if weight.is_inference() else weight._version
        key = (weight.data_ptr(), version, weight.dtype, weight.device, id(transform))
        dispersed = self._dispersed
        if dispersed is None or dispersed[0] != key:
            self._dispersed = dispersed = (key, disperse_kernel(weight, transform))
        return dispersed[1]


def refused_pickle() -> ModelError:
    """Why a module that ScaleCrafter is applied to is not pickled."""
    return ModelError(
        "ScaleCrafter is applied to this U-Net, which cannot be pickled so: call scalecrafter.remove(pipe) first, and "
        "scalecrafter.apply on the copy"
    )


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
