"""Folders and files, local or on any file system that fsspec knows.

No reader ever sees half a file. On a local disk, a file is written under a temporary name, synced and renamed. An
object store shows an object only when it is complete, so objects are written under their own name. On all other file
systems, a file gets a temporary name and is moved with fsspec's `mv`.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .._util.files import UNFINISHED, sweep, write_whole
from ..errors import ScaleCrafterError
from ..request.request import RequestError

WHOLE_AT_ONCE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "r2", "memory"})
"""Protocols of object stores."""


class StorageError(ScaleCrafterError):
    """A file or folder that cannot be read or written: a full disk, a lost connection."""


class Storage:
    """A folder. Names are relative to it."""

    def __init__(self, url: str) -> None:
        """Name a folder; it need not exist yet (`RequestError` for a protocol that cannot be used)."""
        self.files, self.root = _file_system(url)
        protocol = self.files.protocol
        self.protocol: str = protocol if isinstance(protocol, str) else protocol[0]
        self.is_local = self.protocol in ("file", "local")
        self.url = self.root if self.is_local else f"{self.protocol}://{self.root.removeprefix('/')}"
        """Absolute: it means the same in another process."""

    def path(self, name: str) -> str:
        """The path of a name on its file system."""
        return f"{self.root.rstrip('/')}/{name}"

    def names(self, folder: str = "") -> set[str]:
        """The names in a folder below this one; none if there is no such folder."""
        path = self.path(folder).rstrip("/")
        try:
            self.files.invalidate_cache()
            if not self.files.isdir(path):
                if self.files.exists(path):
                    raise RequestError(f"{self.url!r} is a file: name a folder")
                return set()
            return {str(found).rstrip("/").rpartition("/")[2] for found in self.files.ls(path, detail=False)}
        except ScaleCrafterError:
            raise
        except Exception as error:
            raise StorageError(f"cannot look into {path!r}: {_reason(error)}") from None

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            self.files.invalidate_cache()
            return bool(self.files.exists(self.path(name)))
        except Exception as error:
            raise StorageError(f"cannot look for {self.path(name)!r}: {_reason(error)}") from None

    def read(self, name: str) -> bytes:
        """A whole file (`StorageError`)."""
        try:
            return bytes(self.files.cat_file(self.path(name)))
        except Exception as error:
            raise StorageError(f"cannot read {self.path(name)!r}: {_reason(error)}") from None

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file; it replaces an old one (`StorageError`: nothing has changed)."""
        path = self.path(name)
        try:
            if self.is_local:
                write_whole(Path(path), content)
                return
            self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
            if self.protocol in WHOLE_AT_ONCE:
                self.files.pipe_file(path, content)
            else:
                self._write_and_move(path, content)
        except ScaleCrafterError as error:
            raise StorageError(str(error)) from None
        except Exception as error:
            raise StorageError(f"cannot write {path!r}: {_reason(error)}") from None

    def _write_and_move(self, path: str, content: bytes) -> None:
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.{secrets.token_hex(4)}{UNFINISHED}"
        try:
            self.files.pipe_file(temporary, content)
            self.files.mv(temporary, path)
        except BaseException:
            if self.files.exists(temporary):
                self.files.rm_file(temporary)
            raise

    def delete(self, name: str) -> None:
        """Remove a file, if it is there (`StorageError`)."""
        try:
            self.files.rm_file(self.path(name))
        except FileNotFoundError:
            pass
        except Exception as error:
            raise StorageError(f"cannot delete {self.path(name)!r}: {_reason(error)}") from None

    def sweep(self) -> None:
        """Remove the unfinished files of a killed process."""
        if self.is_local:
            sweep(Path(self.root))
        elif self.protocol not in WHOLE_AT_ONCE:
            for folder in ("", "journal"):
                for name in self.names(folder):
                    if name.startswith(".") and name.endswith(UNFINISHED):
                        self.delete(f"{folder}/{name}".lstrip("/"))


@contextmanager
def opened(url: str) -> Iterator[IO[bytes]]:
    """A file to read; one whose name ends in .gz, for example, is decompressed (`RequestError`)."""
    import fsspec

    try:
        with fsspec.open(url, "rb", compression="infer") as file:
            yield file
    except FileNotFoundError:
        raise RequestError(f"there is no file {url!r}") from None
    except ScaleCrafterError:
        raise
    except UnicodeDecodeError as error:
        raise RequestError(f"{url!r} is not text in UTF-8: {error}") from None
    except (OSError, ImportError, ValueError) as error:
        raise RequestError(f"cannot read {url!r}: {_reason(error)}") from None


def as_text(file: IO[bytes]) -> io.TextIOWrapper:
    """The UTF-8 text of a file, with or without a byte order mark; line ends stay as they are."""
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")


def _file_system(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        files, root = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise RequestError(f"cannot use {url!r}: {_reason(error)}") from None
    return files, str(root)


def _reason(error: BaseException) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
