r"""The report of several runs of `scalecrafter eval` as one, whatever devices and dtypes they were made on.

The command itself refuses to mix them (`--join`), since their seconds do not compare and their pictures differ by
rounding.  Where a table is made in parts nonetheless, this says so in the report.

    python -m benchmarks.quality_table benchmarks/quality/pictures.parquet benchmarks/quality/pictures-cpu.parquet \
        -o runs/table

Of a picture that several files hold, the first one counts.  Real pictures are those that ship for critters.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from scalecrafter.evaluation.figures import cells, measure
from scalecrafter.evaluation.looking import make_examiner
from scalecrafter.evaluation.plots import write_plots
from scalecrafter.evaluation.real_pictures import SHIPPED, real_rows
from scalecrafter.evaluation.rows import Row, read_parquet
from scalecrafter.evaluation.settings import REAL, Size
from scalecrafter.evaluation.store import RUN
from scalecrafter.evaluation.tables import write_report

MAY_DIFFER = {"device", "dtype", "weights"}
"""Of what a run shares; the digest of weights is of their bytes, which another dtype changes."""


def merged(files: list[Path]) -> tuple[list[Row], list[dict[str, Any]]]:
    """The rows of all files, and what each file's run shares (`SystemExit` where that is another evaluation)."""
    rows: dict[tuple[str, int, int, int], Row] = {}
    runs = []
    for file in files:
        found, metadata = read_parquet(file)
        runs.append(json.loads(metadata[RUN]))
        for name, value in runs[-1]["shared"].items():
            if name not in MAY_DIFFER and value != runs[0]["shared"].get(name):
                raise SystemExit(f"{file} was made with {name} {value}, {files[0]} with {runs[0]['shared'].get(name)}")
        for row in found:
            rows.setdefault((row.method, row.width, row.height, row.index), row)
        print(f"{file}: {len(found)} pictures, {runs[-1]['shared']['dtype']} on {runs[-1]['shared']['device']}")
    return sorted(rows.values(), key=lambda row: row.index), runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="PICTURES.parquet")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    rows, runs = merged(options.files)
    examiner = make_examiner("critters", observe=True)
    by_cell = cells(rows)
    limits: dict[Size, int] = {}
    for (size, _), members in by_cell.items():
        limits[size] = max(len(members), limits.get(size, 0))
    real = {
        size: real_rows(size, n, examiner, None, SHIPPED, lambda _done, _total: None)[0] for size, n in limits.items()
    }
    order = list(dict.fromkeys(label for run in runs for label in run["choices"]))
    measured = measure(rows, real, order, report=lambda done, total: print(f"{done} of {total} cells", flush=True))
    facts = {key: ", ".join(dict.fromkeys(str(run["shared"][key]) for run in runs)) for key in runs[0]["shared"]}
    commands = list(dict.fromkeys(command for run in runs for command in run["commands"]))
    options.output.mkdir(parents=True, exist_ok=True)
    write_report(options.output, measured, facts, dict.fromkeys(real, "shipped figures of real renders"), commands)
    drawn = {**by_cell, **{(size, REAL): found for size, found in real.items()}}
    write_plots(options.output / "plots", measured, drawn)


if __name__ == "__main__":
    main()
