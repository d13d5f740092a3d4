"""Peak memory of one picture, where it can be measured.

On a GPU, torch counts. For a process, the kernel keeps a high-water mark, which never falls by itself. On Linux a
process can reset its own (proc(5), /proc/pid/clear_refs). On other systems the peak of one picture is unknown.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import Any

RESET_HIGH_WATER_MARK = "5"


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
