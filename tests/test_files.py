"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from scalecrafter._util.files import sweep, write_whole
from scalecrafter.errors import ScaleCrafterError


def test_text_bytes_and_functions_are_written_into_folders_that_are_made(tmp_path: Path) -> None:
    for name, content in (("a", "größe"), ("b", b"bytes"), ("c", lambda file: file.write(b"called"))):
        write_whole(tmp_path / "new" / name, content)
    assert [(tmp_path / "new" / name).read_bytes() for name in "abc"] == ["größe".encode(), b"bytes", b"called"]
    assert sorted(os.listdir(tmp_path / "new")) == ["a", "b", "c"]


def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def fill_the_disk(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = write_whole(tmp_path / "report.md", "old")
    with pytest.raises(ScaleCrafterError, match=r"report\.md.*No space left"):
        write_whole(path, fill_the_disk)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.md"]


def test_sweeping_removes_what_a_killed_process_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in (".0000.png.ab12.part", "deep/.0001.json.cd34.part", "deep/mine.part", ".hidden"):
        (tmp_path / name).write_text("x")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [".hidden", "mine.part"]
