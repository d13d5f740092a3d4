"""Memory budgets as people write them, and the memory that a device has left."""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Callable
from pathlib import Path

import torch

from ..errors import ScaleCrafterError

AUTO = "auto"
OFF = "off"
SHARE = 0.8
"""Of the free memory, what an automatic choice uses."""
_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
          "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "k": 2**10, "m": 2**20, "g": 2**30}  # fmt: skip
_LEAST = 2**20

MemoryBudget = int | str | None


def parse_memory_budget(text: MemoryBudget) -> MemoryBudget:
    """Bytes of "4GiB", "512 MiB", "1.5GB" or a number; "auto" as it is; None for None and "off".

    Raises:
        ScaleCrafterError: for anything else, and for less than a MiB.
    """
    if text is None or text == OFF:
        return None
    if text == AUTO:
        return AUTO
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(text).lower())
    if isinstance(text, bool) or match is None or match[2] not in _UNITS:
        raise ScaleCrafterError(
            f'vae_memory is {text!r}: give a size, as "4GiB" or "800MiB", "auto" (tiles only where the whole does not '
            'fit), or "off" (the VAE is left alone)'
        )
    size = int(float(match[1]) * _UNITS[match[2]])
    if size < _LEAST:
        raise ScaleCrafterError(f'vae_memory is {text!r}, which is {size} bytes: name the unit, as in "4GiB"')
    return size


def readable(size: float) -> str:
    """Bytes as people say them, as "1.50 GiB" or "96 MiB"."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def free_memory(device: torch.device) -> int | None:
    """Bytes that a device can still give; None where it does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    if device.type != "cpu":
        return None
    known = [size for size in (_available(), _left_to_container()) if size is not None]
    return min(known) if known else None


def give_back_free_memory() -> None:
    """Let the C library return what was freed to the system, where it keeps free blocks of mixed sizes (glibc)."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:  # no better guess where the system does not tell
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _left_to_container() -> int | None:
    """What a control group (version 2 or 1) leaves, if it limits this process; files in cache do not count."""
    folder = Path("/sys/fs/cgroup")
    for limit, used, statistics in (
        (folder / "memory.max", folder / "memory.current", folder / "memory.stat"),
        (
            *(folder / "memory" / f"memory.{name}_in_bytes" for name in ("limit", "usage")),
            folder / "memory/memory.stat",
        ),
    ):
        try:
            counts = dict(line.split() for line in statistics.read_text("ascii").splitlines())
            left = int(limit.read_text("ascii")) - int(used.read_text("ascii"))
            return left + int(counts.get("inactive_file", 0))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None
