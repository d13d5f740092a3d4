"""The data folder of a server. Nothing is written outside of it, and only this user can read what is in it.

jobs.sqlite3     jobs and queue
pictures/ID.png  finished pictures
uploads/…        pictures to start from, by their SHA-256
workers/…        a lock for each living worker
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from .._util.pictures import FORMATS
from .database import StoreError

_ID = re.compile(r"[0-9a-f]{32}")
_UPLOAD = re.compile(rf"[0-9a-f]{{64}}\.({'|'.join(sorted(set(FORMATS.values())))})")


class Folders:
    """The folder of one server and the places in it."""

    def __init__(self, data: Path) -> None:
        self.data = data.expanduser().absolute()
        self.jobs = self.data / "jobs.sqlite3"
        self.pictures = self.data / "pictures"
        self.uploads = self.data / "uploads"
        self.workers = self.data / "workers"
        self.page = self.data / "page"

    def make(self) -> None:
        """Make what is missing. Other users cannot look into the folders, or into a new `data` (`StoreError`)."""
        folder = self.data
        try:
            self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.pictures, self.uploads, self.workers):
                folder.mkdir(exist_ok=True)
                make_private(folder)
                for file in folder.iterdir():
                    make_private(file)
        except OSError as error:
            raise StoreError(
                f"cannot make the folder {str(folder)!r}: {error.strerror}; name another with --data"
            ) from None

    def picture(self, picture: str) -> Path:
        """The file of a picture by its id (`ValueError` for what cannot be one)."""
        if not _ID.fullmatch(picture):
            raise ValueError(f"{picture!r} is no id of a picture")
        return self.pictures / f"{picture}.png"

    def upload(self, name: str) -> Path:
        """The file of an upload by its name (`ValueError` for what cannot be one)."""
        if not _UPLOAD.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an upload")
        return self.uploads / name


def make_private(path: Path) -> None:
    """Let only this user read a file or folder."""
    with suppress(FileNotFoundError, PermissionError):  # another user's, who shares it on purpose
        path.chmod(0o700 if path.is_dir() else 0o600)
