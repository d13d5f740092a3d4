"""The folder of an evaluation: pictures, a row beside each, and the settings that all of them share.

A picture is finished when its PNG is there under its final name.  Its row is written first, so neither can be lost
alone, and a run that was stopped goes on with the first picture that is missing.

    run.json                            what the pictures share; another run's settings are refused
    pictures/512x512/direct/0000.png    carries its whole request
    rows/512x512/direct/0000.json       how it was made and what it shows
    pictures.parquet                    all rows together, made anew with each report

Knows nothing of models or figures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import ScaleCrafterError
from ..files import sweep, write_whole
from ..picture_files import save_picture
from ..request import RequestError
from .looking import Findings
from .prompts import ATTRIBUTES
from .settings import Job

if TYPE_CHECKING:
    from ..generation import Result

FORMAT = 1


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


class RunFolder:
    """A folder of one evaluation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def manifest(self) -> dict[str, Any]:
        """What run.json says; empty for a new folder (`RequestError` if it is damaged)."""
        try:
            content = json.loads((self.folder / "run.json").read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RequestError(f"cannot read {str(self.folder / 'run.json')!r}: {error}") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise RequestError(f"{str(self.folder / 'run.json')!r} is of another version: take a new folder")
        return content

    def claim(self, shared: Mapping[str, Any], choices: Mapping[str, Any], command: str) -> None:
        """Make the folder this run's, or see that it already is.

        Args:
            shared: everything that decides what a picture looks like or costs, beside prompt, seed, size and method.
            choices: label → what it stands for; labels of earlier runs may be missing, and new ones are added.
            command: what was typed, for the report.

        Raises:
            RequestError: if the folder holds pictures made with other settings, naming the first that differs.
        """
        found = self.manifest
        shared, choices = json.loads(json.dumps(shared)), json.loads(json.dumps(choices))
        if found:
            for name, value in shared.items():
                self._must_agree(name.replace("_", " "), found["shared"].get(name), value)
            for label, value in choices.items():
                if label in found["choices"]:
                    self._must_agree(f"the method {label}", found["choices"][label], value)
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise RequestError(f"{str(self.folder)!r} holds something else than an evaluation: name a new folder")
        commands = [*found.get("commands", [])]
        if command not in commands:
            commands.append(command)
        self._write_manifest(
            {
                **found,
                "format": FORMAT,
                "shared": shared,
                "choices": {**found.get("choices", {}), **choices},
                "commands": commands,
            }
        )
        sweep(self.folder)

    def _must_agree(self, name: str, found: Any, asked: Any) -> None:
        if found != asked:
            raise RequestError(
                f"{str(self.folder)!r} holds pictures made with other settings: {name} was {_brief(found)} and now is "
                f"{_brief(asked)}. Go on with the same settings, or name a new folder with --output"
            )

    def note(self, **values: Any) -> None:
        """Write more into run.json."""
        self._write_manifest({**self.manifest, **values})

    def _write_manifest(self, content: Mapping[str, Any]) -> None:
        write_whole(self.folder / "run.json", json.dumps(content, indent=1) + "\n")

    def finished(self, job: Job) -> bool:
        """Whether a picture is there already."""
        return (self.folder / _file(job)).is_file() and self._row_path(_file(job)).is_file()

    def keep(self, job: Job, result: Result, peak_memory: int | None, findings: Findings) -> None:
        """Keep a picture with its row (`ScaleCrafterError` when it cannot be written; then it counts as not made)."""
        row = Row(
            file=_file(job),
            method=job.label,
            width=job.size[0],
            height=job.size[1],
            index=job.index,
            prompt=job.prompt.text,
            expected=job.prompt.expected,
            seed=result.request.seed,
            request_sha256=result.request.digest(),
            seconds=result.seconds,
            peak_memory=peak_memory,
            findings=findings,
        )
        self.keep_row(row)
        picture = self.folder / row.file
        picture.parent.mkdir(parents=True, exist_ok=True)
        save_picture(result, picture)

    def keep_row(self, row: Row) -> None:
        """Write a row, in place of the one that there may be."""
        write_whole(self._row_path(row.file), row.model_dump_json())

    def rows(self) -> list[Row]:
        """The rows of all finished pictures, by size, method and index.

        Raises:
            ScaleCrafterError: for a damaged row.
        """
        rows = []
        for path in (self.folder / "rows").glob("*/*/*.json"):
            try:
                row = Row.model_validate_json(path.read_bytes())
            except ValidationError:
                raise ScaleCrafterError(
                    f"{str(path)!r} is damaged: delete it, and its picture is made again with the next run"
                ) from None
            if (self.folder / row.file).is_file():
                rows.append(row)
        return sorted(rows, key=lambda row: (row.width * row.height, row.width, row.method, row.index))

    def _row_path(self, file: str) -> Path:
        return self.folder / "rows" / Path(file).relative_to("pictures").with_suffix(".json")


def _file(job: Job) -> str:
    return f"pictures/{job.size[0]}x{job.size[1]}/{job.label}/{job.index:04d}.png"


def sha256(content: Any) -> str:
    """The digest of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


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
        "features": several, "spectrum": several, "top_octave": number,
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
