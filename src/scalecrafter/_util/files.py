"""Atomic writes: a file is whole or does not exist."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from ..errors import UnwritableError

UNFINISHED = ".part"

Content = bytes | str | Callable[[BinaryIO], object]
"""Bytes, text (UTF-8), or a function that writes to the open file."""


def write_whole(path: Path, content: Content, *, parents: bool = True) -> Path:
    """Write a file atomically; a file of that name is replaced.

    Args:
        path: where.
        content: what.
        parents: make the folders that are missing.

    Raises:
        UnwritableError: what was there before is still there.
    """
    with _finished(path, content, parents) as temporary:
        os.replace(temporary, path)
    return path


def write_new(path: Path, content: Content) -> Path:
    """Write a file atomically without replacing any: if `path` exists, as name-2.png, name-3.png, …

    Many processes may write the same `path` at once; each gets a name of its own.

    Returns:
        Where it is.

    Raises:
        UnwritableError: nothing was left behind.
    """
    with _finished(path, content, parents=False) as temporary:
        for number in count(1):
            target = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
            with suppress(FileExistsError):
                _take_name(temporary, target)
                return target
    raise AssertionError("numbers do not end")


def check_writable(folder: Path) -> None:
    """Raise `UnwritableError` unless files can be made in a folder.  If it does not exist, its parent is checked."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UnwritableError(f"cannot write into the folder {str(folder)!r}: {error.strerror or error}") from None


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left below a folder."""
    for leftover in folder.rglob(f".*{UNFINISHED}"):
        leftover.unlink(missing_ok=True)


@contextmanager
def _finished(path: Path, content: Content, parents: bool) -> Iterator[Path]:
    """A temporary file beside `path` with all of the content, synced to the disk; the block renames it."""
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}"
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
        _sync_names(path.parent)
    except OSError as error:
        raise UnwritableError(
            f"cannot write {str(path)!r}: {error.strerror or error}; nothing was left there"
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _take_name(temporary: Path, target: Path) -> None:
    """Give a finished file a name that must be free (`FileExistsError`)."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: an empty file keeps the name until the rename
        with open(target, "xb"):
            pass
        os.replace(temporary, target)


def _sync_names(folder: Path) -> None:
    """Sync the names in a folder, so that they survive a power cut."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
