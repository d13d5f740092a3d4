"""The report of an evaluation as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .._util.files import write_whole
from .figures import JUDGES, KINDS, CellFigures, Kind, distance_key
from .intervals import CONFIDENCE, RESAMPLES, Interval
from .settings import NATIVE, REAL, Size

VERDICTS = (
    "one_object", "well_formed", "fid_real", "fid_crops", "kid_real_imagenet", "kid_crops_imagenet",
    "kid_real_inception", "kid_crops_inception", "sharpness", "spectrum",
)  # fmt: skip
"""The observer's, the other judges' and the spectrum's, side by side in the first table of each size."""
GLANCE = (*VERDICTS[:-1], "seconds")
"""The figures that are shown for all sizes at once."""
OBJECTS = ("animals", "species", "colour", "accessory", "seconds", "peak_memory")
DISTANCES = tuple(
    tuple(
        distance_key(f"{distance}_{side}", judge) for side in ("real", "crops", "native") for distance in ("fid", "kid")
    )
    for judge in JUDGES
)
"""A table for each judge."""
COMPARED = {
    "compared_real": "FID_r and KID_r",
    "compared_crops": "FID_c and KID_c",
    "compared_native": "FID_b and KID_b",
}
FEW = 16
"""Below so many pictures a cell, a report warns."""
_KIND = {kind.key: kind for kind in KINDS}
NOTHING = "–"


def write_report(
    folder: Path,
    measured: Sequence[CellFigures],
    facts: Mapping[str, str],
    references: Mapping[Size, str],
    commands: Sequence[str],
) -> list[Path]:
    """Write report.md, report.csv and report.json into a folder.

    Args:
        folder: of the run.
        measured: every cell.
        facts: what all pictures share, name → value.
        references: where the real pictures of each size are from, or why there are none.
        commands: that made the pictures.
    """
    content = {
        "facts": dict(facts),
        "commands": list(commands),
        "real_pictures": {_times(size): text for size, text in references.items()},
        "kinds": [asdict(kind) for kind in KINDS],
        "cells": [asdict(cell) for cell in measured],
    }
    return [
        write_whole(folder / "report.md", markdown(measured, facts, references, commands)),
        write_whole(folder / "report.csv", comma_separated(measured)),
        write_whole(folder / "report.json", json.dumps(content, indent=1) + "\n"),
    ]


def comma_separated(measured: Sequence[CellFigures]) -> str:
    """A line a figure: method, width, height, pictures, figure, value, low, high."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "width", "height", "pictures", "figure", "value", "low", "high"])
    for cell in measured:
        for key, found in cell.figures.items():
            numbers = [f"{number:.6g}" for number in (found.value, found.low, found.high)]
            writer.writerow([cell.method, *cell.size, cell.pictures, key, *numbers])
    return text.getvalue()


def markdown(
    measured: Sequence[CellFigures],
    facts: Mapping[str, str],
    references: Mapping[Size, str],
    commands: Sequence[str],
) -> str:
    """The report for readers."""
    sizes = list(dict.fromkeys(cell.size for cell in measured))
    lines = ["# Quality, measured", "", "```sh", *commands, "```", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += [
        f"- figures with {CONFIDENCE:.0%} intervals, percentile bootstrap over pictures, {RESAMPLES} resamples",
        "",
    ]
    fewest = min((cell.pictures for cell in measured if cell.method != REAL), default=FEW)
    if fewest < FEW:
        lines += [f"**{few_pictures(fewest)}**", ""]
    larger = [
        size for size in sizes if any(cell.size == size and cell.method not in (NATIVE, REAL) for cell in measured)
    ]
    for key in GLANCE:
        lines += _glance(_KIND[key], [cell for cell in measured if cell.method not in (NATIVE, REAL)], larger)
    for size in sizes:
        cells = [cell for cell in measured if cell.size == size]
        lines += [f"## {_times(size)}", "", _compared(cells, references.get(size)), ""]
        for keys in (VERDICTS, OBJECTS, *DISTANCES):
            lines += _table(cells, [_KIND[key] for key in keys])
    lines += ["## What the figures say", ""]
    shown = [kind for kind in KINDS if any(kind.key in cell.figures for cell in measured)]
    lines += [f"- **{kind.heading}**: {kind.meaning}{_direction(kind)}" for kind in shown]
    return "\n".join(lines) + "\n"


def few_pictures(number: int) -> str:
    """What so few pictures a cell mean."""
    return (
        f"{number} pictures a method tell little: intervals are wide, and where all pictures agree they have no width; "
        "32 or more tell methods apart"
    )


def in_words(kind: Kind, found: Interval | None) -> str:
    """A figure with its interval, as "97 % (92–100)"."""
    if found is None:
        return NOTHING
    if kind.percent:
        return f"{found.value * 100:.0f} % ({found.low * 100:.0f}–{found.high * 100:.0f})"
    scale = 1000 if kind.thousandfold else 1
    value, low, high = (
        f"{number * scale:.{kind.digits}f}".replace("-", "−") for number in (found.value, found.low, found.high)
    )
    between = " to " if "−" in low + high else "–"
    return f"{value}{kind.unit} ({low}{between}{high})"


def _glance(kind: Kind, cells: Sequence[CellFigures], sizes: Sequence[Size]) -> list[str]:
    """One figure of every method at every size."""
    if not any(kind.key in cell.figures for cell in cells):
        return []
    found = {(cell.method, cell.size): cell.figures.get(kind.key) for cell in cells}
    methods = dict.fromkeys(cell.method for cell in cells)
    rows = [[method, *(in_words(kind, found.get((method, size))) for size in sizes)] for method in methods]
    return [f"**{kind.heading}**", "", *_grid(["method", *(_times(size) for size in sizes)], rows), ""]


def _table(cells: Sequence[CellFigures], kinds: Sequence[Kind]) -> list[str]:
    """Several figures of every method at one size; figures that no method has are left out."""
    shown = [kind for kind in kinds if any(kind.key in cell.figures for cell in cells)]
    if not shown:
        return []
    rows = [
        [cell.method, str(cell.pictures), *(in_words(kind, cell.figures.get(kind.key)) for kind in shown)]
        for cell in cells
    ]
    return [*_grid(["method", "pictures", *(kind.heading for kind in shown)], rows), ""]


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def _compared(cells: Sequence[CellFigures], real: str | None) -> str:
    """What the cells of one size were compared with, and over how many pictures."""
    sides = []
    for which, names in COMPARED.items():
        numbers = sorted({getattr(cell, which) for cell in cells} - {0})
        if numbers:
            sides.append(f"{' to '.join(dict.fromkeys((str(numbers[0]), str(numbers[-1]))))} for {names}")
    return f"Real pictures: {real or 'none'}." + (f" Pictures on each side: {', '.join(sides)}." if sides else "")


def _direction(kind: Kind) -> str:
    return {"more": "; more is better", "less": "; less is better", "none": ""}[kind.better]


def _times(size: Any) -> str:
    return f"{size[0]}×{size[1]}"
