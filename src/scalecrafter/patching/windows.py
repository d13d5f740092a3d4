"""A U-Net that is evaluated in overlapping windows, whose predictions are averaged.

Paper: Bar-Tal et al. 2023 (arXiv 2302.08113), section 3, equation 5 (weights all 1).  The paper averages the next
latents of all windows that cover a pixel; here the U-Net's predictions are averaged, inside of the pipeline's own call.
The two are the same where a scheduler's step is affine in the prediction with the same coefficients at every pixel:
every scheduler of a request, whether the model predicts noise, velocity or the sample, as long as it neither clips nor
thresholds.  Ancestral schedulers then add one noise to the fused latents rather than averaging one for each window,
which would make it too weak.  Guidance is affine as well, so the order of guiding and averaging does not matter.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..unet.architecture import find_unet

Window = tuple[slice, slice]
"""Rows and columns, in latent pixels."""


def windows(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> list[Window]:
    """Windows that cover `size`, `stride` apart, the last ones moved back so that they end with it.

    All are (height, width) in latent pixels; a window larger than the size is cut to it.
    """
    rows, columns = (_slices(*axis) for axis in zip(size, window, stride, strict=True))
    return list(itertools.product(rows, columns))


def _slices(length: int, window: int, stride: int) -> list[slice]:
    window = min(window, length)
    starts = [*range(0, length - window, max(stride, 1)), length - window]
    return [slice(start, start + window) for start in starts]


@contextmanager
def fused_windows(pipe: Any, window: tuple[int, int], stride: tuple[int, int]) -> Iterator[Any]:
    """For the length of a `with` block, let each U-Net call be the average of calls on overlapping windows.

    A call on latents no larger than one window is left alone, to the bit.  As many windows as make up the area of the
    latents are evaluated at once, so that no more memory is needed than by direct inference.

    Args:
        pipe: a pipeline with a U-Net, or a bare one.
        window: (height, width) in latent pixels.
        stride: likewise, from one window to the next.
    """
    unet = find_unet(pipe)
    before = unet.__dict__.get("forward")  # an offloading hook's, say
    unet.__dict__["forward"] = _FusedForward(unet, window, stride)
    try:
        yield pipe
    finally:
        del unet.__dict__["forward"]
        if before is not None:
            unet.__dict__["forward"] = before


class _FusedForward:
    """What stands in for a U-Net's `forward`."""

    def __init__(self, unet: nn.Module, window: tuple[int, int], stride: tuple[int, int]) -> None:
        self._forward = unet.forward
        self._parameters = list(inspect.signature(type(unet).forward).parameters)[1:]
        self._window, self._stride = window, stride

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        named = dict(zip(self._parameters, args, strict=False)) | kwargs
        sample: Tensor = named.pop("sample")
        batch, size = sample.shape[0], (sample.shape[-2], sample.shape[-1])
        places = windows(size, self._window, self._stride)
        if len(places) == 1:
            return self._forward(*args, **kwargs)
        at_once = max(size[0] * size[1] // (self._window[0] * self._window[1]), 1)
        predictions: list[Tensor] = []
        for first in range(0, len(places), at_once):
            group = places[first : first + at_once]
            crops = torch.cat([sample[..., rows, columns] for rows, columns in group])
            output = self._forward(crops, **{k: _repeated(v, batch, len(group)) for k, v in named.items()})
            predictions += output[0].split(batch)
        fused = fuse(predictions, places, size)
        return (fused,) if isinstance(output, tuple) else type(output)(sample=fused)


def fuse(predictions: list[Tensor], places: list[Window], size: tuple[int, int]) -> Tensor:
    """The average, at each pixel of `size` (height, width), of the predictions `(batch, channels, …)` that cover it."""
    first = predictions[0]
    total = first.new_zeros((*first.shape[:-2], *size), dtype=torch.float32)
    count = first.new_zeros(size, dtype=torch.float32)
    for (rows, columns), prediction in zip(places, predictions, strict=True):
        total[..., rows, columns] += prediction
        count[rows, columns] += 1
    return (total / count).to(first.dtype)


def _repeated(value: Any, batch: int, times: int) -> Any:
    """Everything that is batched in a U-Net's arguments, once for each window; the rest as it is."""
    if isinstance(value, Tensor):
        return torch.cat([value] * times) if value.ndim > 0 and value.shape[0] == batch else value
    if isinstance(value, dict):
        return {key: _repeated(item, batch, times) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_repeated(item, batch, times) for item in value)
    return value
