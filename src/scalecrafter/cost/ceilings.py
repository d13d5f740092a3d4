"""What the machine can do at best, measured: a matrix product, a copy, and attention at the model's head widths."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

REPEATS = 5


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """How long some work takes; on a GPU until all of it is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def head_widths(unet: nn.Module) -> list[int]:
    """The widths of the heads of its attention."""
    blocks: Iterable[Any] = (one for one in unet.modules() if hasattr(one, "to_q") and hasattr(one, "heads"))
    return sorted({one.inner_dim // one.heads for one in blocks})


@torch.no_grad()
def ceilings(widths: Iterable[int], dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """TFLOP/s of a matrix product and of attention by head width, and GB/s that a copy reads and writes.

    The best of a few, after one that is not counted.
    """
    on_gpu = device.type == "cuda"
    tokens, heads, copied = (16384, 10, 1 << 30) if on_gpu else (1024, 4, 1 << 26)
    source = torch.empty(copied, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    attention = {}
    for width in widths:
        query = torch.randn(1, heads, tokens, width, device=device, dtype=dtype)

        def attend(query: torch.Tensor = query) -> Any:
            return F.scaled_dot_product_attention(query, query, query)

        attention[str(width)] = 4 * heads * tokens**2 * width / _best(attend, device) / 1e12
    return {
        "matrix_product_tflops_per_s": matrix_product(dtype, device) / 1e12,
        "copy_gb_per_s": 2 * copied / _best(lambda: target.copy_(source), device) / 1e9,
        "attention_tflops_per_s": attention,
    }


@torch.no_grad()
def matrix_product(dtype: torch.dtype, device: torch.device, repeats: int = REPEATS) -> float:
    """Operations a second of a large matrix product: the best of `repeats`, after one that is not counted."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / _best(lambda: left @ right, device, repeats)


def _best(work: Callable[[], Any], device: torch.device, repeats: int = REPEATS) -> float:
    work()
    return min(seconds(work, device) for _ in range(repeats))


def middle(values: list[float]) -> float:
    """The median, without the first round where there are two more: libraries make themselves ready in it."""
    return statistics.median(values[1:] if len(values) > 2 else values)
