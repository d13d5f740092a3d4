"""Memory: sizes as text, what a device has free, and errors that mean that it ran out."""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ScaleCrafterError

if TYPE_CHECKING:
    import torch

AUTO = "auto"
OFF = "off"
MemoryBudget = int | str | None
"""Of the VAE: bytes, a size as "4GiB", "auto" or "off"; None is "off"."""
_LEAST_BUDGET = 2**20
_UNITS = {"": 1, "b": 1, "bytes": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
          "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "k": 2**10, "m": 2**20, "g": 2**30}  # fmt: skip
_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def parse_bytes(text: str) -> int | None:
    """Bytes of "4GiB", "512 MiB", "1.5GB" or a number without a unit; None for any other text."""
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    return int(float(match[1]) * _UNITS[match[2]]) if match and match[2] in _UNITS else None


def parse_memory_budget(budget: MemoryBudget, name: str = "vae_memory") -> MemoryBudget:
    """Bytes of a size; "auto" as it is; None for None and "off".

    Raises:
        ScaleCrafterError: for anything else, and for less than a MiB; calls it `name`.
    """
    if budget is None or budget == OFF:
        return None
    if budget == AUTO:
        return AUTO
    size = None if isinstance(budget, bool) else parse_bytes(str(budget))
    if size is None:
        raise ScaleCrafterError(
            f'{name} is {budget!r}: give a size, as "4GiB" or "800MiB", "auto" (tiles only where the whole does not '
            'fit), or "off" (the VAE is left alone)'
        )
    if size < _LEAST_BUDGET:
        has_unit = isinstance(budget, str) and budget.strip()[-1].isalpha()
        advice = "that is too little: give 1MiB or more" if has_unit else 'name the unit, as in "4GiB"'
        raise ScaleCrafterError(f"{name} is {budget!r}, which is {size} bytes: {advice}")
    return size


def readable(size: float) -> str:
    """Bytes as text, "1.50 GiB" or "96 MiB"."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def free_memory(device: torch.device) -> int | None:
    """Bytes that a device can still give; None where it does not tell."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    if device.type != "cpu":
        return None
    known = [size for size in (_available(), _left_to_container()) if size is not None]
    return min(known) if known else None


def total_memory(device: torch.device) -> int | None:
    """Bytes of a device; of the machine for the CPU; None where it does not tell."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return _physical() if device.type == "cpu" else None


def give_back_free_memory() -> None:
    """Let the C library return what was freed to the system, where it keeps free blocks of mixed sizes (glibc)."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def bytes_refused(error: BaseException) -> int | None:
    """The size of the allocation that failed, where torch's message tells it."""
    match = re.search(r"tried to allocate (\d+(?:\.\d+)? ?(?:bytes|[kmgt]ib))", str(error).lower())
    return parse_bytes(match[1]) if match else None


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
        total = _physical()  # no better guess where the system does not tell
        return None if total is None else total // 2


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
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
