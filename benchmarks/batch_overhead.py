"""What a batch costs beside its pictures: reading and settling lines, writing rows, making the manifest.

python -m benchmarks.batch_overhead --lines 20000
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from scalecrafter.batch.folder import now
from scalecrafter.batch.jobs import read_lines, to_request, to_task
from scalecrafter.batch.manifest import MANIFEST, Journal, ManifestRow, compact
from scalecrafter.batch.storage import Storage
from scalecrafter.generation.picture_files import package_versions
from scalecrafter.models.loading import load_outline
from scalecrafter.unet.architecture import read_architecture

PARTS = 1000
"""So many rows are written one at a time, as after pictures; the others at once."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=20_000)
    lines = parser.parse_args().lines
    with tempfile.TemporaryDirectory() as folder:
        jobs = Path(folder) / "jobs.jsonl"
        jobs.write_text("".join(json.dumps({"prompt": f"a blue fox, number {n}"}) + "\n" for n in range(lines)))
        architecture = read_architecture(load_outline("critters"))
        started = time.perf_counter()
        tasks = [to_task(line, to_request(line, {}), architecture) for line in read_lines(str(jobs))]
        settling = (time.perf_counter() - started) / lines

        place = Storage(f"{folder}/out")
        journal = Journal(place, "benchmark")
        versions = json.dumps(package_versions())
        rows = [
            ManifestRow(
                hash=task.hash, line=task.line, request=task.request.model_dump_json(), status="made", seconds=1.0,
                attempts=1, file=f"{task.hash}.png", versions=versions, finished=now(),
            )
            for task in tasks
        ]  # fmt: skip
        started = time.perf_counter()
        for row in rows[:PARTS]:
            journal.add([row])
        writing = (time.perf_counter() - started) / len(rows[:PARTS])
        journal.add(rows[PARTS:])
        started = time.perf_counter()
        compact(place, lambda _: True)
        making = (time.perf_counter() - started) / lines
        size = len(place.read(MANIFEST)) / lines
    print("| what | each |\n|---|---|")
    print(f"| reading, checking and settling a line | {settling * 1e3:.2f} ms |")
    print(f"| writing a row after its picture, merging included | {writing * 1e3:.1f} ms |")
    print(f"| a row's share of making the manifest | {making * 1e3:.3f} ms |")
    print(f"| a row in the manifest | {size:.0f} bytes |")


if __name__ == "__main__":
    main()
