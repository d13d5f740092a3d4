"""The folder of an evaluation: pictures, a row beside each, and the settings that all of them share.

A picture is finished when its PNG has its final name. Its row is written first, so no picture is without a row. A
stopped run continues with the first missing picture.

    run.json                            what the pictures share; another run's settings are refused
    pictures/512x512/direct/0000.png    carries its whole request
    rows/512x512/direct/0000.json       how it was made and what it shows
    pictures.parquet                    all rows together, made anew with each report
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .._util.files import sweep, write_whole
from ..errors import ScaleCrafterError
from ..generation.picture_files import save_picture
from ..request.request import RequestError
from .inspection import PictureMetrics, Signature, same_signature
from .rows import PictureRow, read_parquet
from .settings import Sample

if TYPE_CHECKING:
    from ..generation.generate import Result

FORMAT = 1
RUN = "run"
"""Key of the metadata of `pictures.parquet`: the content of run.json."""


class RunFolder:
    """A folder of one evaluation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._joined: dict[str, PictureRow] = {}

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of run.json; empty for a new folder (`RequestError` if it is damaged)."""
        try:
            content = json.loads((self.folder / "run.json").read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise RequestError(f"cannot read {str(self.folder / 'run.json')!r}: {error}") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise RequestError(f"{str(self.folder / 'run.json')!r} is of another version: take a new folder")
        return _with_present_names(content)

    def claim(
        self, shared: Mapping[str, Any], choices: Mapping[str, Any], command: str, machine: str = "unknown"
    ) -> None:
        """Make the folder this run's, or see that it already is.

        Args:
            shared: everything that decides what a picture looks like or costs, beside prompt, seed, size and method.
            choices: label → what it stands for; labels of earlier runs may be missing, and new ones are added.
            command: what was typed, for the report.
            machine: what it runs on, likewise.

        Raises:
            RequestError: if the folder holds pictures made with other settings, naming the first that differs.
        """
        found = self.manifest
        shared, choices = json.loads(json.dumps(shared)), json.loads(json.dumps(choices))
        if found:
            for name, value in shared.items():
                _must_agree(str(self.folder), name.replace("_", " "), found["shared"].get(name), value)
            for label, value in choices.items():
                if label in found["choices"]:
                    _must_agree(str(self.folder), f"the method {label}", found["choices"][label], value)
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise RequestError(f"{str(self.folder)!r} holds something else than an evaluation: name a new folder")
        self._write_manifest(
            {
                **found,
                "format": FORMAT,
                "shared": shared,
                "choices": {**found.get("choices", {}), **choices},
                "commands": _without_repeats([*found.get("commands", []), command]),
                "machines": _without_repeats([*found.get("machines", []), machine]),
            }
        )
        sweep(self.folder)

    def join(self, path: Path, signature: Signature) -> None:
        """Count the pictures of another run as finished, by the `pictures.parquet` of its report.

        Args:
            path: of that file. Where both have a picture, the folder's own counts.
            signature: of the inspector of all rows.

        Raises:
            RequestError: for a file that cannot be read, of other settings, or of another inspector.
        """
        rows, metadata = _read_joined(path)
        theirs, ours = _with_present_names(json.loads(metadata[RUN])), self.manifest
        where = str(path)
        for name, value in ours["shared"].items():
            _must_agree(where, name.replace("_", " "), theirs["shared"].get(name), value)
        for label in theirs["choices"].keys() & ours["choices"].keys():
            _must_agree(where, f"the method {label}", theirs["choices"][label], ours["choices"][label])
        if not same_signature(theirs["inspector"]["signature"], signature):
            raise RequestError(
                f"{where!r} holds what another observer saw, and its pictures are not here to be looked at again: "
                "make it anew where they are, with --report-only"
            )
        self._joined.update({row.file: row for row in rows})
        self.note(
            choices={**theirs["choices"], **ours["choices"]},
            commands=_without_repeats([*theirs["commands"], *ours["commands"]]),
            machines=_without_repeats([*theirs["machines"], *ours["machines"]]),
        )

    def note(self, **values: Any) -> None:
        """Write more into run.json."""
        self._write_manifest({**self.manifest, **values})

    def _write_manifest(self, content: Mapping[str, Any]) -> None:
        write_whole(self.folder / "run.json", json.dumps(content, indent=1) + "\n")

    def finished(self, sample: Sample) -> bool:
        """Whether a picture is there already, or its row was joined."""
        file = _file(sample)
        return file in self._joined or ((self.folder / file).is_file() and self._row_path(file).is_file())

    def keep(self, sample: Sample, result: Result, peak_memory: int | None, metrics: PictureMetrics) -> None:
        """Write a picture and its row (`ScaleCrafterError` when this fails; then it counts as not made)."""
        row = PictureRow(
            file=_file(sample),
            method=sample.label,
            width=sample.size[0],
            height=sample.size[1],
            index=sample.index,
            prompt=sample.prompt.text,
            expected=sample.prompt.expected,
            seed=result.request.seed,
            request_sha256=result.request.digest(),
            seconds=result.seconds,
            peak_memory=peak_memory,
            metrics=metrics,
        )
        self.keep_row(row)
        picture = self.folder / row.file
        picture.parent.mkdir(parents=True, exist_ok=True)
        save_picture(result, picture)

    def keep_row(self, row: PictureRow) -> None:
        """Write a row; it replaces an old one."""
        write_whole(self._row_path(row.file), row.model_dump_json())

    def rows(self) -> list[PictureRow]:
        """The rows of all finished pictures, joined ones too, by size, method and index.

        Raises:
            ScaleCrafterError: for a damaged row.
        """
        rows = {**self._joined, **{row.file: row for row in self.own_rows()}}
        return sorted(rows.values(), key=lambda row: (row.width * row.height, row.width, row.method, row.index))

    def own_rows(self) -> list[PictureRow]:
        """The rows of the pictures that are in this folder.

        Raises:
            ScaleCrafterError: for a damaged row.
        """
        rows = []
        for path in (self.folder / "rows").glob("*/*/*.json"):
            try:
                row = PictureRow.model_validate_json(path.read_bytes())
            except ValidationError:
                raise ScaleCrafterError(
                    f"{str(path)!r} is damaged: delete it, and its picture is made again with the next run"
                ) from None
            if (self.folder / row.file).is_file():
                rows.append(row)
        return rows

    def _row_path(self, file: str) -> Path:
        return self.folder / "rows" / Path(file).relative_to("pictures").with_suffix(".json")


def _with_present_names(manifest: dict[str, Any]) -> dict[str, Any]:
    """Version 0.1 named the inspector "examiner"."""
    return {"inspector" if name == "examiner" else name: value for name, value in manifest.items()}


def _file(sample: Sample) -> str:
    return f"pictures/{sample.size[0]}x{sample.size[1]}/{sample.label}/{sample.index:04d}.png"


def sha256(content: Any) -> str:
    """The digest of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _must_agree(where: str, name: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise RequestError(
            f"{where!r} holds pictures made with other settings: {name} was {_brief(found)} and now is "
            f"{_brief(wanted)}. Go on with the same settings, or name a new folder with --output"
        )


def _read_joined(path: Path) -> tuple[list[PictureRow], dict[str, str]]:
    try:
        rows, metadata = read_parquet(path)
    except FileNotFoundError:
        raise RequestError(f"there is no file {str(path)!r}") from None
    except (OSError, ValueError, KeyError) as error:  # pyarrow's own errors are ValueErrors
        raise RequestError(f"{str(path)!r} is not the pictures.parquet of an evaluation: {error}") from None
    if RUN not in metadata:
        raise RequestError(f"{str(path)!r} does not say how its pictures were made: take the pictures.parquet of a run")
    return rows, metadata


def _without_repeats(values: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
