"""The rows of an evaluation, one per picture, and the Parquet file with all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from .._util.files import write_whole
from .inspection import PictureMetrics
from .prompts import ATTRIBUTES


class PictureRow(BaseModel):
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
    metrics: PictureMetrics = Field(validation_alias=AliasChoices("metrics", "findings"))  # the second: older runs


def write_parquet(rows: Iterable[PictureRow], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write one Parquet row a picture: its own columns, what was expected, what was seen (`part_…` are counts)."""
    import pyarrow
    import pyarrow.parquet

    rows = list(rows)
    kinds = sorted({kind for row in rows for kind in row.metrics.parts})
    sources = sorted({name for row in rows for name in row.metrics.features})
    text, whole, number, yes = pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.bool_()
    several = pyarrow.list_(pyarrow.float32())
    columns = {
        "file": text, "method": text, "width": whole, "height": whole, "index": whole, "prompt": text, "seed": whole,
        "request_sha256": text, "seconds": number, "peak_memory": whole,
        **{f"expected_{name}": text for name in ATTRIBUTES}, **{f"seen_{name}": text for name in ATTRIBUTES},
        "animals": whole, **{f"part_{kind}": whole for kind in kinds}, "one_object": yes, "well_formed": yes,
        **{f"features_{name}": several for name in sources},
        **{f"crops_{name}": pyarrow.list_(several) for name in sources}, "spectrum": several, "top_octave": number,
    }  # fmt: skip
    schema = pyarrow.schema(columns.items(), metadata=dict(metadata or {}))
    table = pyarrow.Table.from_pylist([_flat(row) for row in rows], schema=schema)
    write_whole(path, lambda file: pyarrow.parquet.write_table(table, file, compression="zstd"))


def read_parquet(path: Path) -> tuple[list[PictureRow], dict[str, str]]:
    """The rows that `write_parquet` wrote, and their metadata."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return [_row(entry) for entry in table.to_pylist()], metadata


def _flat(row: PictureRow) -> dict[str, Any]:
    metrics = row.metrics
    return {
        **row.model_dump(exclude={"metrics", "expected"}),
        **metrics.model_dump(exclude={"parts", "attributes", "features"}),
        **{f"features_{name}": features.whole for name, features in metrics.features.items()},
        **{f"crops_{name}": features.crops for name, features in metrics.features.items()},
        **{f"expected_{name}": value for name, value in row.expected.items()},
        **{f"seen_{name}": value for name, value in metrics.attributes.items()},
        **{f"part_{kind}": count for kind, count in metrics.parts.items()},
    }


def _row(entry: Mapping[str, Any]) -> PictureRow:
    def under(prefix: str) -> dict[str, Any]:
        return {
            name.removeprefix(prefix): value
            for name, value in entry.items()
            if name.startswith(prefix) and value is not None
        }

    metrics = {name: entry[name] for name in (*PictureMetrics.model_fields, "crops") if name in entry}
    metrics |= {"parts": under("part_"), "attributes": under("seen_")}
    wholes, crops = under("features_"), under("crops_")
    if wholes:
        metrics["features"] = {name: {"whole": whole, "crops": crops.get(name, [])} for name, whole in wholes.items()}
    own = {name: entry[name] for name in PictureRow.model_fields if name in entry}
    return PictureRow(**own, expected=under("expected_"), metrics=PictureMetrics(**metrics))
