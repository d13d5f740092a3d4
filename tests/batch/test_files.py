"""What is read and written: job files of every kind, storage of every kind, a manifest that outlives its writer."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from scalecrafter.batch.groups import grouped
from scalecrafter.batch.jobs import BatchTask, Line, count_lines, read_lines, to_request
from scalecrafter.batch.manifest import Journal, ManifestRow, compact, read_manifest
from scalecrafter.batch.storage import Storage, StorageError
from scalecrafter.request.batching import batch_key
from scalecrafter.request.request import Request, RequestError

LINES: list[dict[str, Any]] = [
    {"prompt": 'a fox, "quick" and\nbrown', "seed": 7, "width": 512, "height": 256, "guidance": 3.5},
    {"prompt": "ein Füchslein", "freeu": True},
    {"prompt": "a cat", "method": "cascade", "cascade": {"restart": [0.7, 0.4], "levels": 1}},
]


def requests(url: object) -> list[Request]:
    return [to_request(line, {"steps": 9}) for line in read_lines(str(url))]


def test_jsonl_csv_and_parquet_give_the_same_requests(tmp_path: Path) -> None:
    text = "".join(json.dumps(line) + "\n" for line in LINES)
    (tmp_path / "jobs.jsonl").write_text(text)
    (tmp_path / "jobs.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    columns = list({name: None for line in LINES for name in line})
    with (tmp_path / "jobs.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(
            {name: json.dumps(value) if isinstance(value, dict) else value for name, value in line.items()}
            for line in LINES
        )
    table = pyarrow.Table.from_pylist([{name: line.get(name) for name in columns} for line in LINES])
    pyarrow.parquet.write_table(table, tmp_path / "jobs.parquet")
    expected = requests(tmp_path / "jobs.jsonl")
    assert [request.steps for request in expected] == [9, 9, 9]
    assert expected[2].settings is not None
    for name in ("jobs.jsonl.gz", "jobs.csv", "jobs.parquet"):
        assert requests(tmp_path / name) == expected
        assert count_lines(str(tmp_path / name)) == 3


def test_a_line_of_csv_with_too_many_cells_is_named_by_its_place_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text('prompt,seed\n"a\nfox",1\na cat,2,3\na dog,\n')
    lines = list(read_lines(str(tmp_path / "jobs.csv")))
    assert [line.number for line in lines] == [2, 4, 5]
    assert lines[1].values is None
    with pytest.raises(RequestError, match="line 4: has more cells"):
        to_request(lines[1], {})
    assert to_request(lines[2], {}).prompt == "a dog"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("jobs.txt", b"a fox", "JSONL, CSV or Parquet"),
        ("jobs.csv", b"text\na fox\n", "no column named prompt"),
        ("jobs.parquet", b"a fox", "not a Parquet file"),
        ("jobs.jsonl", b'{"prompt": "\xff"}', "UTF-8"),
        ("none.jsonl", None, "there is no file"),
        ("nowhere://jobs.jsonl", None, "cannot"),
    ],
)
def test_a_file_that_is_no_jobs_file_is_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    url = name if "://" in name else str(tmp_path / name)
    if content is not None:
        Path(url).write_bytes(content)
    with pytest.raises(RequestError, match=message):
        list(read_lines(url))


def test_the_seed_that_nobody_gave_is_the_lines_own() -> None:
    one, same, other = (to_request(Line(1, {"prompt": text}), {}) for text in ("a fox", "a fox", "a cat"))
    assert one == same
    assert one.seed is not None
    assert one.seed != other.seed
    assert to_request(Line(1, {"prompt": "a fox"}), {"seed": 5}).seed == 5


def test_the_name_of_a_request_tells_every_setting_apart_and_nothing_else() -> None:
    base = Request(prompt="a fox", guidance=7, seed=1)
    assert (
        base.digest() == Request.from_mapping({"seed": 1, "guidance": 7.0, "prompt": "a fox", "negative": ""}).digest()
    )
    changes: list[dict[str, Any]] = [
        {"prompt": "a cat"}, {"negative": "x"}, {"model": "m"}, {"width": 64, "height": 64}, {"method": "direct"},
        {"recipe": "sd15-1024x1024"}, {"freeu": True}, {"steps": 3}, {"guidance": 2.0}, {"seed": 2},
        {"scheduler": "ddim"}, {"dtype": "bf16"}, {"device": "cpu"}, {"image": "a.png"},
        {"method": "cascade", "cascade": {"levels": 1, "until": 0.9}},
    ]  # fmt: skip
    names = {base.changed(**change).digest() for change in changes}
    assert len(names | {base.digest()}) == len(changes) + 1


def test_only_requests_of_one_shape_have_a_shape_in_common() -> None:
    base = Request(prompt="a fox", seed=1)
    assert batch_key(base) == batch_key(base.changed(prompt="a cat", seed=2)) is not None
    both = [base.changed(negative=text) for text in ("x", "y")]
    assert batch_key(both[0]) == batch_key(both[1]) != batch_key(base)
    for change in ({"steps": 3}, {"guidance": 3.0}, {"recipe": "none"}, {"width": 64, "height": 64}):
        assert batch_key(base.changed(**change)) not in (None, batch_key(base))
    for change in ({"image": "a.png"}, {"method": "upscale"}, {"method": "cascade"}):
        assert batch_key(base.changed(**change)) is None


def test_groups_are_of_one_shape_and_keep_models_together() -> None:
    def task(line: int, **values: Any) -> BatchTask:
        request = Request(prompt=f"fox {line}", seed=line, **values)
        return BatchTask(line, request.digest(), request)

    tasks = [task(1), task(2, model="m"), task(3), task(4, method="upscale"), task(5), task(6, method="upscale")]
    groups = [[task.line for task in group] for group in grouped(tasks, lambda _: 2)]
    assert groups == [[1, 3], [4], [5], [6], [2]]
    groups = [[task.line for task in group] for group in grouped(tasks, lambda _: 9, window=3)]
    assert groups == [[1, 3], [2], [4], [5], [6]]


class PlainMemory(MemoryFileSystem):
    """A file system that is no object store and not this machine's."""

    protocol = "plainmemory"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    full = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("plainmemory://", "memory://"))

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().mv(path1, path2, **kwargs)


@pytest.fixture(params=["local", "memory", "plainmemory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    fsspec.register_implementation("plainmemory", PlainMemory, clobber=True)
    yield Storage(str(tmp_path / "place") if request.param == "local" else f"{request.param}://place/{tmp_path.name}")
    PlainMemory.full = False


def test_a_place_of_any_kind_keeps_whole_files(place: Storage) -> None:
    assert place.names() == set()
    place.write("a.bin", b"1")
    place.write("a.bin", b"22")
    place.write("sub/b.bin", b"3")
    assert (place.read("a.bin"), place.read("sub/b.bin")) == (b"22", b"3")
    assert place.names() == {"a.bin", "sub"}
    assert place.names("sub") == {"b.bin"}
    assert (place.exists("a.bin"), place.exists("c.bin")) == (True, False)
    again = Storage(place.url)
    assert again.read("a.bin") == b"22"
    place.delete("a.bin")
    place.delete("a.bin")
    assert again.names() == {"sub"}
    with pytest.raises(StorageError, match=r"cannot read .*a\.bin"):
        place.read("a.bin")


def test_a_failed_rename_leaves_what_was_there_and_nothing_else() -> None:
    fsspec.register_implementation("plainmemory", PlainMemory, clobber=True)
    place = Storage("plainmemory://full")
    place.write("a.bin", b"old")
    PlainMemory.full = True
    try:
        with pytest.raises(StorageError, match="No space left"):
            place.write("a.bin", b"new")
    finally:
        PlainMemory.full = False
    assert (place.names(), place.read("a.bin")) == ({"a.bin"}, b"old")


def row(number: int, **values: Any) -> ManifestRow:
    return ManifestRow(**{"hash": f"{number:064x}", "line": number, "request": "{}", "status": "made", **values})


def test_the_journal_is_read_while_it_is_written_and_never_grows_many_files(place: Storage) -> None:
    journal = Journal(place, "w", most_parts=8)
    count = 11
    for number in range(count):
        journal.add([row(number)])
        if number in (0, 6):
            assert len(read_manifest(place.url)) == number + 1
    assert len(place.names("journal")) == 4
    assert sorted(found.line for found in read_manifest(place.url)) == list(range(count))


def test_of_several_rows_of_a_request_the_last_one_counts_whoever_wrote_it(place: Storage) -> None:
    late, early = Journal(place, "late"), Journal(place, "early")
    early.add([row(1, status="failed", finished="2026-01-02"), row(2, finished="2026-01-01")])
    late.add([row(1, finished="2026-01-01"), row(2, status="failed", finished="2026-01-02"), row(3)])
    kept = compact(place, lambda found: found.line != 3)
    assert {found.line: found.status for found in kept.values()} == {1: "failed", 2: "failed"}
    assert {found.line: found.status for found in read_manifest(place.url)} == {1: "failed", 2: "failed"}
    assert place.names("journal") == set()
    assert compact(place, lambda _: True) == kept


def test_a_damaged_manifest_is_named_with_the_remedy(place: Storage) -> None:
    place.write("manifest.parquet", b"PAR1 and then nothing")
    with pytest.raises(StorageError, match=r"damaged.*delete it"):
        read_manifest(place.url)


@pytest.mark.parametrize(("name", "row"), [("a.jsonl", "{deep}"), ("a.csv", "prompt,cascade\na fox,{deep}")])
def test_lines_too_deep_to_read_are_problems_of_their_own(tmp_path: Path, name: str, row: str) -> None:
    (tmp_path / name).write_text(row.replace("{deep}", "[" * 100_000) + "\n")
    line = next(read_lines(str(tmp_path / name)))
    if line.values is None:
        assert "is not JSON" in line.problem
    else:
        with pytest.raises(RequestError, match="cascade"):
            to_request(line, {})
