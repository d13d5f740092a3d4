"""Files that are whole or not there: written under a temporary name, then renamed.  Knows nothing of their content."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..errors import ScaleCrafterError

UNFINISHED = ".part"


def write_whole(path: Path, content: bytes | str | Callable[[BinaryIO], object]) -> Path:
    """Write a file so that a crash, a full disk or a second reader never meets half of it; folders are made.

    Args:
        path: where; a file of that name is replaced.
        content: bytes, text (UTF-8), or what writes to the open file.

    Raises:
        ScaleCrafterError: when it cannot be written; what was there before is still there.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise ScaleCrafterError(f"cannot write {str(path)!r}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def sweep(folder: Path) -> None:
    """Remove what a killed process left unfinished below a folder."""
    for leftover in folder.rglob(f".*{UNFINISHED}"):
        leftover.unlink(missing_ok=True)
