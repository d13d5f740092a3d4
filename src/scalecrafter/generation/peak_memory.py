"""Peak memory of one picture, where it can be measured.

On a GPU, torch counts. For a process, the kernel keeps a high-water mark, which never falls by itself. On Linux a
process can reset its own (proc(5), /proc/pid/clear_refs). On other systems the peak of one picture is unknown.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import Any

import torch

RESET_HIGH_WATER_MARK = "5"


def reset(pipe: Any) -> None:
    """Let torch's count begin anew, where it keeps one."""
    if pipe.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(pipe.device)


def peak(pipe: Any) -> int | None:
    """Bytes: on a GPU the most that torch held since `reset`, else the most that this process ever held (see `begin`);
    None where neither is known."""
    if pipe.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(pipe.device))
    if sys.platform == "win32":
        return None
    import resource

    high = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return high if sys.platform == "darwin" else high * 1024


def begin(pipe: Any) -> bool:
    """Before a picture: let its peak be counted from here.

    Returns:
        Whether `Result.peak_memory` will be this picture's own: on CUDA what torch holds on the device; on a CPU under
        Linux the whole process, interpreter, libraries and models included.
    """
    if pipe.device.type == "cuda":
        return True
    if not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(OSError, AttributeError):  # not glibc: freed memory may stay and count
        ctypes.CDLL(None).malloc_trim(0)
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write(RESET_HIGH_WATER_MARK)
    except OSError:
        return False
    return True
