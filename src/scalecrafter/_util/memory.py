"""Recognising the ways in which torch and Python run out of memory.  Knows nothing of models."""

from __future__ import annotations

import re

import torch

_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")
_UNITS = {"bytes": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def bytes_refused(error: BaseException) -> int | None:
    """The size of the allocation that failed, where torch's message tells it."""
    text = str(error).lower()
    match = re.search(r"tried to allocate (\d+(?:\.\d+)?) ?(bytes|[kmgt]ib)", text)
    return int(float(match[1]) * _UNITS[match[2]]) if match else None
