"""Deep features at a coarser grid than the size of the picture makes them, for the first part of the trajectory.

Source: Zhang et al. 2024 (HiDiffusion, arXiv 2311.17528), section 3.3, "resolution-aware U-Net".  A level can be made
coarser in two places.  At its *sampler*: what leaves it on the way down has half the side that it would have, and on
the way up it comes back at its own size.  After its first *pair* of residual block and attention, on the way down; then
the last pair but one brings the side back on the way up.  The skip connections between have the coarser side as well.

All of it is done by hooks; convolutions and attention run as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import ModelError
from ..unet.architecture import find_unet
from ..unet.trajectory import Trajectory
from .callers import calling_pipeline, is_model


@dataclass(frozen=True)
class Coarse:
    """One place where features become coarser by half, for a part of the trajectory."""

    at: Literal["sampler", "pair"]
    level: int
    """0 is the finest."""
    until: float
    """Where it ends; places are fractions of the trajectory, from pure noise."""
    begin: float = 0.0

    def acts(self, place: Fraction) -> bool:
        """Whether it does at this place."""
        return Fraction(repr(self.begin)) <= place < Fraction(repr(self.until))


@contextmanager
def coarse_features(pipe: Any, places: Sequence[Coarse]) -> Iterator[Any]:
    """For the length of a `with` block, make a U-Net's deep features coarser in these places.

    Args:
        pipe: a pipeline with a U-Net, or a bare one.
        places: at which level, and where in the trajectory.

    Raises:
        ModelError: for a level that the U-Net cannot be made coarser at.
    """
    unet = find_unet(pipe)
    now = _Now()
    handles = [unet.register_forward_pre_hook(_Start(pipe, now).begin, with_kwargs=True)]
    try:
        for coarse in places:
            handles += _at_sampler(unet, coarse, now) if coarse.at == "sampler" else _at_pair(unet, coarse, now)
        handles += _sizes_of_samplers(unet, now)
        yield pipe
    finally:
        for handle in handles:
            handle.remove()


class _Now(threading.local):
    """The current U-Net call of one thread."""

    place = Fraction(1)

    def __init__(self) -> None:
        self.sizes: dict[Any, tuple[int, int]] = {}
        """What was made coarser in this call, with the size (height, width) that it had."""
        self.trajectory = Trajectory()


class _Start:
    """Before each U-Net call: where in the trajectory it is."""

    def __init__(self, pipe: Any, now: _Now) -> None:
        self._pipe, self._now = pipe, now

    def begin(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        now = self._now
        now.sizes.clear()
        pipe, _ = calling_pipeline(lambda parts: is_model(parts.get("unet"), unet))
        pipe = self._pipe if pipe is None else pipe
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        run_length = getattr(pipe, "num_timesteps", None)
        now.place = now.trajectory.place(getattr(pipe, "scheduler", None), timestep, run_length)


def _at_sampler(unet: Any, coarse: Coarse, now: _Now) -> list[RemovableHandle]:
    """Every second row and column goes into a downsampler, which halves again."""
    down = _part(unet.down_blocks, coarse.level, "downsamplers", 0)
    key = ("sampler", coarse.level)

    def halve(_module: nn.Module, args: tuple[Any, ...]) -> Any:
        if not coarse.acts(now.place):
            return None
        now.sizes[key] = _size(args[0])
        return (args[0][..., ::2, ::2], *args[1:])

    return [down.register_forward_pre_hook(halve)]


def _at_pair(unet: Any, coarse: Coarse, now: _Now) -> list[RemovableHandle]:
    """The output of a level's first pair is averaged, and that of its last pair but one interpolated."""
    block, other = unet.down_blocks[coarse.level], unet.up_blocks[len(unet.down_blocks) - 1 - coarse.level]
    first, last = _pairs(block)[0], _pairs(other)[-2]

    def halve(features: Tensor) -> Tensor | None:
        if not coarse.acts(now.place):
            return None
        now.sizes["pair", coarse.level] = _size(features)
        return F.avg_pool2d(features, 2, ceil_mode=True)

    def bring_back(features: Tensor) -> Tensor | None:
        size = now.sizes.get(("pair", coarse.level))
        return None if size is None else F.interpolate(features, size, mode="bicubic")

    return [first.register_forward_hook(_on_output(halve)), last.register_forward_hook(_on_output(bring_back))]


def _sizes_of_samplers(unet: Any, now: _Now) -> list[RemovableHandle]:
    """On the way up each level comes back at the size that it had on the way down, as its skip connections have."""
    handles = []
    for level in range(len(unet.down_blocks) - 1):
        down = _part(unet.down_blocks, level, "downsamplers", 0)
        up = _part(unet.up_blocks, len(unet.down_blocks) - 2 - level, "upsamplers", 0)

        def see(_module: nn.Module, args: tuple[Any, ...], level: int = level) -> None:
            now.sizes["level", level] = now.sizes.get(("sampler", level), _size(args[0]))

        def say(_module: nn.Module, args: tuple[Any, ...], level: int = level) -> Any:
            coarser = any(key[0] != "level" for key in now.sizes)
            return (args[0], now.sizes["level", level]) if coarser else None

        handles += [down.register_forward_pre_hook(see), up.register_forward_pre_hook(say)]
    return handles


def _on_output(change: Callable[[Tensor], Tensor | None]) -> Callable[..., Any]:
    """A forward hook that changes the features that a module returns, alone or first in a tuple."""

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        features: Tensor = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
        changed = change(features)
        if changed is None:
            return None
        if isinstance(output, tuple):
            return (changed, *output[1:])
        return changed if isinstance(output, Tensor) else type(output)(sample=changed)

    return hook


def _pairs(block: Any) -> list[nn.Module]:
    """What makes the output of each pair: its attention, or its residual block where there is none."""
    found = list(getattr(block, "attentions", None) or block.resnets)
    if len(found) < len(block.resnets) or len(block.resnets) < 1:
        raise ModelError(f"a {type(block).__name__} has no pairs of residual block and attention to be coarser after")
    return found


def _part(blocks: Any, number: int, name: str, index: int) -> nn.Module:
    parts = getattr(blocks[number], name, None) if 0 <= number < len(blocks) else None
    if not parts:
        raise ModelError(f"this U-Net has no {name} at block {number}, where its features could be coarser")
    part: nn.Module = parts[index]
    return part


def _size(features: Tensor) -> tuple[int, int]:
    return features.shape[-2], features.shape[-1]
