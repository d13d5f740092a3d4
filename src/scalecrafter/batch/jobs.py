"""The lines of a jobs file, and the requests in them.

The ending of the file's name tells the format: JSONL (one object per line), CSV (a header; empty cells are left out) or
Parquet (nulls are left out). Compressed files (.gz and others) are decompressed. The same values give the same request
in every format.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import ScaleCrafterError
from ..models.sources import locate
from ..request.request import Request, RequestError
from ..request.text import parse_size
from .columns import plain_name, settings_and_others
from .storage import as_text, opened

if TYPE_CHECKING:
    from .._util.sizes import ModelSizes

SUFFIX = ".png"
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}


@dataclass(frozen=True)
class Line:
    """One line of a jobs file."""

    number: int
    """From 1: of the line in the file, in Parquet of the row."""
    values: Mapping[str, Any] | None
    """The values of a request; None if the line cannot be read."""
    problem: str = ""


@dataclass(frozen=True)
class BatchTask:
    """One picture to make."""

    line: int
    hash: str
    request: Request
    """Settled."""
    name: str = ""
    """Of its file, without the ending; empty: the hash."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Columns of the line that are no settings."""

    @property
    def file(self) -> str:
        """The name of its picture's file."""
        return f"{self.name or self.hash}{SUFFIX}"


def file_format(url: str) -> str:
    """ "jsonl", "csv" or "parquet" by the ending of a name (`RequestError`)."""
    for suffix in reversed(PurePosixPath(url).suffixes[-2:]):
        if suffix.lower() in FORMATS:
            return FORMATS[suffix.lower()]
    raise RequestError(f"the jobs are in JSONL, CSV or Parquet: let {url!r} end in .jsonl, .csv or .parquet")


def check_jobs(url: str, defaults: Mapping[str, Any]) -> None:
    """Refuse a jobs file that cannot be read, or defaults that no line can have, without torch.

    Raises:
        RequestError: for what cannot be read, and for wrong defaults.
        ModelError: for a default model that does not exist.
    """
    file_format(url)
    with opened(url) as file:
        file.read(1)
    if defaults.get("model"):
        locate(defaults["model"])


def read_lines(url: str) -> Iterator[Line]:
    """The lines of a jobs file (`RequestError` if the file cannot be read)."""
    readers = {"jsonl": _jsonl_lines, "csv": _csv_lines, "parquet": _parquet_lines}
    yield from readers[file_format(url)](url)


def count_lines(url: str) -> int:
    """The number of lines; their content is read only if the format needs it (`RequestError`)."""
    if file_format(url) == "parquet":
        with opened(url) as file:
            return int(_parquet_file(url, file).metadata.num_rows)
    if file_format(url) == "jsonl":
        with opened(url) as file:
            return sum(1 for line in file if line.strip())
    return sum(1 for _ in read_lines(url))


def to_request(line: Line, defaults: Mapping[str, Any]) -> Request:
    """The request of a line, whose columns are sorted by `columns.settings_and_others`.

    `size`, as 1024x768, may stand for width and height.

    Without a seed, the seed comes from the request's hash: the same line gives the same picture every time.

    Args:
        line: of the jobs file.
        defaults: for values that the line does not have.

    Raises:
        RequestError: what is wrong, with the number of the line.
    """
    if line.values is None:
        raise RequestError(f"line {line.number}: {line.problem}")
    try:
        values = settings_and_others(line.values)[0]
        if values.get("size") is not None:
            values["width"], values["height"] = parse_size(str(values["size"]))
    except RequestError as error:
        raise RequestError(f"line {line.number}: {error}") from None
    values.pop("size", None)
    request = Request.from_mapping({**defaults, **values}, f"line {line.number}")
    if request.seed is None:
        request = request.changed(seed=int(request.digest()[:8], 16))
    return request


def to_task(line: Line, request: Request, architecture: ModelSizes) -> BatchTask:
    """The task of a line (errors as `generation.generate.settle`, with the number of the line)."""
    from ..generation.generate import settle

    try:
        settled, _ = settle(request, architecture)
    except ScaleCrafterError as error:
        raise type(error)(f"line {line.number}: {error}") from None
    others = settings_and_others(line.values or {})[1]
    return BatchTask(line.number, settled.digest(), settled, columns=others)


def _jsonl_lines(url: str) -> Iterator[Line]:
    with opened(url) as file:
        for number, text in enumerate(as_text(file), 1):
            if not text.strip():
                continue
            try:
                values = json.loads(text)
            except (ValueError, RecursionError) as error:
                yield Line(number, None, f"is not JSON: {error}")
                continue
            if isinstance(values, dict):
                yield Line(number, values)
            else:
                yield Line(number, None, 'is not a JSON object such as {"prompt": "a blue fox"}')


def _csv_lines(url: str) -> Iterator[Line]:
    with opened(url) as file:
        reader = csv.DictReader(as_text(file))
        if not {"prompt", "enlarge", "image"} & {plain_name(name) for name in reader.fieldnames or ()}:
            raise RequestError(
                f"{url!r} has no column named prompt, enlarge or image: begin it with a line of column names"
            )
        end = reader.line_num
        while True:
            number = end + 1
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield Line(number, None, f"is not CSV: {error}")
                end = reader.line_num
                continue
            if row is None:
                return
            end = reader.line_num
            if None in row:
                yield Line(number, None, "has more cells than there are columns; put texts with commas in quotes")
            else:
                yield Line(number, {name: _cell(text) for name, text in row.items() if text not in (None, "")})


def _cell(text: str) -> Any:
    """A cell's text; a JSON object or list is read as one."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _parquet_lines(url: str) -> Iterator[Line]:
    with opened(url) as file:
        number = 0
        for batch in _parquet_file(url, file).iter_batches(1024):
            for row in batch.to_pylist():
                number += 1
                yield Line(number, _without_nulls(row))


def _parquet_file(url: str, file: Any) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowException as error:
        raise RequestError(f"{url!r} is not a Parquet file: {error}") from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return value
