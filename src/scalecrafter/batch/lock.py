"""A lock: one batch at a time in a folder.

On a local disk the operating system holds the lock and releases it when the process ends, however it ends. Elsewhere a
small object names the process that holds the lock, and a heartbeat writes it again every half minute. An object without
a heartbeat for long, or of a dead process, does not count. Two processes that start at the same moment read the object
back to see who was last. Remote file systems have no real lock, so this is not perfect. It is enough: pictures and
journals are whole files with names of their own, so two batches at once waste work and damage nothing.
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
"""Seconds between two heartbeats."""
DEAD_AFTER = 180.0
"""Seconds without a heartbeat after which a batch counts as gone."""
SETTLES = 0.5
"""Seconds that a remote file system may take until others read what was written."""


@contextmanager
def locked(storage: Storage) -> Iterator[None]:
    """Hold a folder for the length of a `with` block (`RequestError` where another batch is at work in it)."""
    with _locked_file(storage) if storage.is_local else _locked_object(storage):
        yield


def _refused(storage: Storage, who: str) -> RequestError:
    return RequestError(
        f"another batch is at work in {storage.url!r}{who}: wait until it has finished, or name another folder"
    )


@contextmanager
def _locked_file(storage: Storage) -> Iterator[None]:
    path = Path(storage.path(LOCK))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(f"cannot write {str(path)!r}: {error.strerror}") from None
    try:
        if not _try_lock(file):
            raise _refused(storage, "")
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
def _locked_object(storage: Storage) -> Iterator[None]:
    token = secrets.token_hex(8)

    def sign() -> None:
        mine = {"token": token, "host": platform.node(), "process": os.getpid(), "time": time.time()}
        storage.write(LOCK, json.dumps(mine).encode())

    found = _found(storage)
    if found is not None and _is_alive(found):
        raise _refused(storage, f" ({found.get('host')}, process {found.get('process')})")
    sign()
    time.sleep(SETTLES)
    read_back = _found(storage)
    if read_back is not None and read_back.get("token") != token:
        raise _refused(storage, "")
    stop = threading.Event()

    def heartbeat() -> None:
        while not stop.wait(EVERY):
            try:
                sign()
            except StorageError:  # the next picture will show it, too
                continue

    thread = threading.Thread(target=heartbeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        storage.delete(LOCK)


def _found(storage: Storage) -> dict[str, object] | None:
    if not storage.exists(LOCK):
        return None
    try:
        found = json.loads(storage.read(LOCK))
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
