"""Does the observer see what people see?  Its metrics of a run beside counts made by eye.

python -m benchmarks.observer_agreement runs/quality hand-counts.csv

The CSV has a line a picture: file (as in the run's pictures.parquet), animals (how many, by eye), well_formed (yes, no,
or nothing where it was not judged).  Count on the pictures themselves, before looking at what the observer said.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scalecrafter.evaluation.intervals import Interval, bootstrap
from scalecrafter.evaluation.rows import PictureRow, read_parquet

WORDS = {"yes": True, "no": False, "": None}


@dataclass(frozen=True)
class ByEye:
    """What a person saw in one picture."""

    animals: int
    well_formed: bool | None


def read_counts(path: Path) -> dict[str, ByEye]:
    """File → what was seen (`ValueError` naming the line that says something else)."""
    seen = {}
    with path.open(newline="") as lines:
        for number, line in enumerate(csv.DictReader(lines), 2):
            try:
                seen[line["file"]] = ByEye(int(line["animals"]), WORDS[line["well_formed"].strip()])
            except (KeyError, ValueError, AttributeError):
                raise ValueError(f"{path}, line {number}: file, a number and yes, no or nothing are wanted") from None
    return seen


def table(rows: Iterable[PictureRow], by_eye: dict[str, ByEye]) -> list[str]:
    """Markdown: of every cell, and of all, the rates by eye and by the observer, and how often both agree."""
    cells: dict[str, list[tuple[PictureRow, ByEye]]] = defaultdict(list)
    for row in rows:
        if row.file in by_eye:
            for cell in (f"{row.width}×{row.height}, {row.method}", "all"):
                cells[cell].append((row, by_eye[row.file]))
    missing = set(by_eye) - {row.file for row, _ in cells.get("all", [])}
    if missing:
        raise ValueError(f"{len(missing)} counted pictures are not in the run, {min(missing)} among them")
    lines = [
        "| pictures | counted | one object, by eye | by the observer | same number | well formed, by eye "
        "| by the observer | same verdict |",
        "|---" * 8 + "|",
    ]
    for cell in sorted(cells, key=lambda name: (name == "all", name)):
        pairs = cells[cell]
        judged = [(row, eye) for row, eye in pairs if eye.well_formed is not None]
        figures = (
            bootstrap([eye.animals == 1 for _, eye in pairs]),
            bootstrap([row.metrics.animals == 1 for row, _ in pairs]),
            bootstrap([row.metrics.animals == eye.animals for row, eye in pairs]),
            bootstrap([eye.well_formed for _, eye in judged]),
            bootstrap([row.metrics.well_formed for row, _ in judged]),
            bootstrap([row.metrics.well_formed == eye.well_formed for row, eye in judged]),
        )
        lines.append(f"| {cell} | {len(pairs)} | " + " | ".join(_percent(figure) for figure in figures) + " |")
    return lines


def _percent(figure: Interval | None) -> str:
    return "–" if figure is None else f"{100 * figure.value:.0f} % ({100 * figure.low:.0f}–{100 * figure.high:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of `scalecrafter eval`")
    parser.add_argument("counts", type=Path, help="CSV of counts by eye")
    options = parser.parse_args()
    print("\n".join(table(read_parquet(options.run / "pictures.parquet")[0], read_counts(options.counts))))


if __name__ == "__main__":
    main()
