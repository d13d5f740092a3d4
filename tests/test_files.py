"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from scalecrafter._util.files import check_writable, sweep, write_new, write_whole
from scalecrafter.errors import UnwritableError


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
    with pytest.raises(UnwritableError, match=r"report\.md.*No space left"):
        write_whole(path, fill_the_disk)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.md"]


def test_sweeping_removes_what_a_killed_process_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in (".0000.png.ab12.part", "deep/.0001.json.cd34.part", "deep/mine.part", ".hidden"):
        (tmp_path / name).write_text("x")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [".hidden", "mine.part"]


def test_a_new_file_takes_the_next_free_name_and_replaces_nothing(tmp_path: Path) -> None:
    written = [write_new(tmp_path / "p.png", f"{number}") for number in range(3)]
    assert [path.name for path in written] == ["p.png", "p-2.png", "p-3.png"]
    assert [path.read_text() for path in written] == ["0", "1", "2"]
    assert sorted(os.listdir(tmp_path)) == ["p-2.png", "p-3.png", "p.png"]


@pytest.mark.parametrize("hard_links", [True, False])
def test_writers_of_one_name_at_once_each_keep_their_file(
    tmp_path: Path, hard_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hard_links:  # as FAT and some network file systems

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
    begin, written = threading.Barrier(16), {}

    def write(text: str) -> None:
        begin.wait()
        written[text] = write_new(tmp_path / "p.png", text)

    writers = [threading.Thread(target=write, args=(f"{number}",)) for number in range(16)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(set(written.values())) == 16
    assert all(path.read_text() == text for text, path in written.items())
    assert len(os.listdir(tmp_path)) == 16


def test_files_have_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        paths = [write_whole(tmp_path / "a", "x"), write_new(tmp_path / "b", "x")]
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o640}


def test_a_folder_that_cannot_be_written_is_told_and_one_that_can_stays_empty(tmp_path: Path) -> None:
    check_writable(tmp_path / "to" / "be" / "made")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    unwritable = Path("/proc")  # to root as well
    if not unwritable.is_dir():
        unwritable = tmp_path / "read-only"
        unwritable.mkdir(0o555)
    with pytest.raises(UnwritableError, match="cannot write into the folder"):
        check_writable(tmp_path / "file")
    with pytest.raises(UnwritableError, match="cannot write into the folder"):
        check_writable(unwritable)
