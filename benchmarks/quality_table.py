"""The report of several runs of `scalecrafter eval` as one, whatever devices and dtypes they were made on.

The command itself refuses to mix them (`--join`), since their seconds do not compare and their pictures differ by
rounding.  Where a table is made in parts nonetheless, its report names all devices and dtypes.

    python -m benchmarks.quality_table benchmarks/quality/pictures.parquet benchmarks/quality/pictures-cpu.parquet \\
        -o runs/table

Of a picture that several files hold, the first one counts.  Real pictures are those that ship for critters.
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from scalecrafter.evaluation.inspection import make_inspector
from scalecrafter.evaluation.real_pictures import SHIPPED
from scalecrafter.evaluation.reporting import report
from scalecrafter.evaluation.rows import read_parquet, write_parquet
from scalecrafter.evaluation.runs import agree_on_inspector
from scalecrafter.evaluation.store import RUN, RunFolder

MAY_DIFFER = ("device", "dtype", "weights")
"""Of what a run shares; the digest of weights is of their bytes, which another dtype changes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="PICTURES.parquet")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--features", default="imagenet", help="that the files hold beside the observer's")
    options = parser.parse_args()
    found = [read_parquet(file) for file in options.files]
    runs = [json.loads(metadata[RUN]) for _, metadata in found]
    all_of = {name: ", ".join(dict.fromkeys(run["shared"][name] for run in runs)) for name in MAY_DIFFER}

    store, inspector = RunFolder(options.output), make_inspector(options.features, observe=True)
    command = f"python -m benchmarks.quality_table {' '.join(map(str, options.files))}"
    store.claim(runs[0]["shared"] | all_of, runs[0]["choices"], command, ", ".join(runs[0]["machines"]))
    agree_on_inspector(store, inspector, lambda _done, _total: None, again=False)
    with TemporaryDirectory() as folder:
        for number in reversed(range(len(runs))):  # a later join goes before an earlier one
            run = runs[number] | {"shared": runs[number]["shared"] | all_of}
            part = Path(folder) / f"{number}.parquet"
            write_parquet(found[number][0], part, {RUN: json.dumps(run)})
            store.join(part, inspector.signature())
        for table in report(store, inspector, None, SHIPPED, lambda _name: nullcontext(lambda _done, _total: None)):
            print(table)


if __name__ == "__main__":
    main()
