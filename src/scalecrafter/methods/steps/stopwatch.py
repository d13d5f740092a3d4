"""How long the parts of a picture take: denoising and decoding, by the size in image pixels."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ..._util.sizes import ImageSize

DENOISE: Literal["denoise"] = "denoise"
DECODE: Literal["decode"] = "decode"


@dataclass(frozen=True)
class PartTime:
    """One denoising with what its pipeline does before it (texts, the encoding of an image), or one decoding."""

    kind: Literal["denoise", "decode"]
    size: ImageSize
    seconds: float


_parts: ContextVar[list[PartTime] | None] = ContextVar("parts", default=None)


@contextmanager
def part_times() -> Iterator[list[PartTime]]:
    """What is denoised and decoded inside of the block, in this thread; the list fills meanwhile."""
    found: list[PartTime] = []
    token = _parts.set(found)
    try:
        yield found
    finally:
        _parts.reset(token)


@contextmanager
def part_time(kind: Literal["denoise", "decode"], pipe: Any, shape: list[int]) -> Iterator[None]:
    """Time the block.

    Args:
        kind: what it does.
        pipe: whose device may still be at work when the block ends.
        shape: of the latents, filled by the block where it is not known before.
    """
    found = _parts.get()
    started = time.perf_counter()
    yield
    if found is None:
        return
    if pipe.device.type == "cuda":
        torch.cuda.synchronize(pipe.device)
    height, width = (side * pipe.vae_scale_factor for side in shape[-2:])
    found.append(PartTime(kind, ImageSize(width, height), time.perf_counter() - started))
