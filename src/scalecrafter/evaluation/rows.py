"""Rows of an evaluation, one a picture, and the Parquet file that holds all of them.

Knows nothing of folders or of how a picture is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from .._util.files import write_whole
from .looking import Findings
from .prompts import ATTRIBUTES


class Row(BaseModel):
    """One picture: where it is, how it was made, what it shows."""

    model_config = ConfigDict(frozen=True)

    file: str
    """Relative to the run's folder."""
    method: str
    """Label of its cell."""
    width: int
    height: int
    index: int
    prompt: str
    expected: dict[str, str] = {}
    seed: int | None = None
    request_sha256: str | None = None
    """Of the settled request (`Request.digest`), which travels in the PNG."""
    seconds: float | None = None
    peak_memory: int | None = None
    """Bytes; None where it could not be measured."""
    findings: Findings


def write_parquet(rows: Iterable[Row], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write one Parquet row a picture: its own columns, what was expected, what was seen (`part_…` are counts)."""
    import pyarrow
    import pyarrow.parquet

    rows = list(rows)
    kinds = sorted({kind for row in rows for kind in row.findings.parts})
    text, whole, number, yes = pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.bool_()
    several = pyarrow.list_(pyarrow.float32())
    columns = {
        "file": text, "method": text, "width": whole, "height": whole, "index": whole, "prompt": text, "seed": whole,
        "request_sha256": text, "seconds": number, "peak_memory": whole,
        **{f"expected_{name}": text for name in ATTRIBUTES}, **{f"seen_{name}": text for name in ATTRIBUTES},
        "animals": whole, **{f"part_{kind}": whole for kind in kinds}, "one_object": yes, "well_formed": yes,
        "features": several, "crops": pyarrow.list_(several), "spectrum": several, "top_octave": number,
    }  # fmt: skip
    schema = pyarrow.schema(columns.items(), metadata=dict(metadata or {}))
    table = pyarrow.Table.from_pylist([_flat(row) for row in rows], schema=schema)
    write_whole(path, lambda file: pyarrow.parquet.write_table(table, file, compression="zstd"))


def read_parquet(path: Path) -> tuple[list[Row], dict[str, str]]:
    """The rows that `write_parquet` wrote, and their metadata."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return [_row(entry) for entry in table.to_pylist()], metadata


def _flat(row: Row) -> dict[str, Any]:
    findings = row.findings
    return {
        **row.model_dump(exclude={"findings", "expected"}),
        **findings.model_dump(exclude={"parts", "attributes"}),
        **{f"expected_{name}": value for name, value in row.expected.items()},
        **{f"seen_{name}": value for name, value in findings.attributes.items()},
        **{f"part_{kind}": count for kind, count in findings.parts.items()},
    }


def _row(entry: Mapping[str, Any]) -> Row:
    def under(prefix: str) -> dict[str, Any]:
        return {
            name.removeprefix(prefix): value
            for name, value in entry.items()
            if name.startswith(prefix) and value is not None
        }

    findings = {name: entry[name] for name in Findings.model_fields if name in entry}
    findings |= {"parts": under("part_"), "attributes": under("seen_")}
    own = {name: entry[name] for name in Row.model_fields if name in entry}
    return Row(**own, expected=under("expected_"), findings=Findings(**findings))
