"""One batch at a time in a folder.

Locally the operating system holds the lock, and lets go of it when the process ends in whatever way.  Elsewhere a
small object says who is at work, and is written anew every half minute; one that has been left alone for long, or
whose process is known to be dead, counts for nothing.  Two that begin within the same moment tell each other apart
by reading it back: no store that fsspec knows need have a lock, so this is as good as it gets, and it is enough, since
pictures and journals are whole files with names of their own: two batches at once would do work twice, not damage.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..request.request import RequestError
from .storage import Storage, StorageError

LOCK = ".lock"
EVERY = 30.0
"""Seconds between two signs of life."""
DEAD_AFTER = 180.0
"""Seconds without one after which a batch counts as gone."""
SETTLES = 0.5
"""Seconds that a store may take until what one has written is what another one reads."""


@contextmanager
def locked(place: Storage) -> Iterator[None]:
    """Hold a folder for the length of a `with` block (`RequestError` where another batch is at work in it)."""
    with _locked_file(place) if place.is_local else _locked_object(place):
        yield


def _refused(place: Storage, who: str) -> RequestError:
    return RequestError(
        f"another batch is at work in {place.url!r}{who}: wait until it has finished, or name another folder"
    )


@contextmanager
def _locked_file(place: Storage) -> Iterator[None]:
    path = Path(place.path(LOCK))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(f"cannot write {str(path)!r}: {error.strerror}") from None
    try:
        if not _try_lock(file):
            raise _refused(place, "")
        yield
    finally:
        os.close(file)


def _try_lock(file: int) -> bool:
    """Lock an open file for this process, unless it is another one's; closing it lets go."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _locked_object(place: Storage) -> Iterator[None]:
    token = secrets.token_hex(8)

    def sign() -> None:
        mine = {"token": token, "host": platform.node(), "process": os.getpid(), "time": time.time()}
        place.write(LOCK, json.dumps(mine).encode())

    found = _found(place)
    if found is not None and _is_alive(found):
        raise _refused(place, f" ({found.get('host')}, process {found.get('process')})")
    sign()
    time.sleep(SETTLES)
    read_back = _found(place)
    if read_back is not None and read_back.get("token") != token:
        raise _refused(place, "")
    stop = threading.Event()

    def keep_signing() -> None:
        while not stop.wait(EVERY):
            try:
                sign()
            except StorageError:  # a store that is gone shows when the next picture is written
                continue

    thread = threading.Thread(target=keep_signing, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        place.delete(LOCK)


def _found(place: Storage) -> dict[str, object] | None:
    if not place.exists(LOCK):
        return None
    try:
        found = json.loads(place.read(LOCK))
    except (StorageError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _is_alive(found: dict[str, object]) -> bool:
    signed, process = found.get("time"), found.get("process")
    if not isinstance(signed, (int, float)) or time.time() - signed > DEAD_AFTER:
        return False
    if os.name != "nt" and found.get("host") == platform.node() and isinstance(process, int):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
    return True
