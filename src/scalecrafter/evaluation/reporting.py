"""The report of an evaluation: tables, plots and contact sheets of everything in its folder.

Each file is made again from the rows, so a report can be made at any time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from ..errors import ScaleCrafterError
from ..generation.picture_files import package_versions
from .figures import cells, measure
from .inspection import Inspector
from .plots import write_plots
from .real_pictures import real_rows
from .rows import write_parquet
from .settings import REAL
from .sheets import write_sheet
from .store import RUN, RunFolder
from .tables import write_report

Counter = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Opens a progress bar with a name; it is called with (done, all)."""


def report(
    store: RunFolder, inspector: Inspector, real_folder: Path | None, shipped: Path | None, counter: Counter
) -> list[Path]:
    """Write the report of all pictures in a folder: report.md, .csv, .json, pictures.parquet, plots/ and sheets/.

    Args:
        store: the folder, whose rows are of `inspector`.
        inspector: looks at real pictures.
        real_folder: the user's real pictures, which come before `shipped`.
        shipped: figures of real pictures, if they are a fair comparison.
        counter: shows how it gets on.

    Returns:
        The tables, in reading order.

    Raises:
        ScaleCrafterError: for a folder without pictures, and for files that cannot be written.
    """
    rows = store.rows()
    if not rows:
        raise ScaleCrafterError(f"{str(store.folder)!r} holds no picture to report on")
    manifest = store.manifest
    write_parquet(rows, store.folder / "pictures.parquet", {RUN: json.dumps(manifest)})
    by_cell = cells(rows)
    real, origins = {}, {}
    for size in dict.fromkeys(size for size, _ in by_cell):
        limit = max(len(members) for (of, _), members in by_cell.items() if of == size)
        with counter(f"real pictures, {size[0]}×{size[1]}") as progress:
            real[size], origins[size] = real_rows(size, limit, inspector, real_folder, shipped, progress)
    with counter("figures") as progress:
        measured = measure(rows, real, list(manifest["choices"]), report=progress)
    facts = _facts(manifest)
    tables = write_report(store.folder, measured, facts, origins, manifest["commands"])
    with counter("plots and contact sheets") as progress:
        drawn = {**by_cell, **{(size, REAL): members for size, members in real.items() if members}}
        write_plots(store.folder / "plots", measured, drawn)
        for number, ((size, method), members) in enumerate(by_cell.items(), 1):
            here = [row for row in members if (store.folder / row.file).is_file()]
            if here:
                write_sheet(store.folder, here, store.folder / "sheets" / f"{size[0]}x{size[1]}-{method}.png")
            progress(number, len(by_cell))
    return tables


def _facts(manifest: dict[str, dict[str, object]]) -> dict[str, str]:
    """What readers need to know of how the pictures were made."""
    shared = manifest["shared"]
    facts = {
        "model": f"{shared['model']} (weights {str(shared['weights'])[:12]})",
        "pictures": f"{shared['steps']} steps, guidance {shared['guidance']}, "
        f"scheduler {shared['scheduler'] or 'its own'}, {shared['dtype']}, seeds from {shared['seed']}",
        "made on": "; ".join(map(str, manifest["machines"])),
        "features": str(manifest["inspector"]["name"]),
    }
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    return facts | {"report": f"{datetime.now(UTC):%Y-%m-%d}, {versions}"}
