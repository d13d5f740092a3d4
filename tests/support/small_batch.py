"""A batch of a tiny model in a folder, for tests, also as a process that can be killed (`alone`)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from scalecrafter.batch.folder import opened_folder
from scalecrafter.batch.manifest import ManifestRow
from scalecrafter.batch.running import Batch, BatchSettings, Executor, Summary, in_process
from scalecrafter.batch.worker import BatchWorker


class Notes:
    """A listener that writes down what it is told."""

    def __init__(self, rest: float = 0.0) -> None:
        self.total = 0
        self.rows: list[ManifestRow] = []
        self.skips: list[str] = []
        self.notes: list[str] = []
        self.steps = 0
        self._rest = rest

    def begin(self, total: int) -> None:
        self.total = total

    def step(self, _step: int, _steps: int) -> None:
        self.steps += 1

    def note(self, text: str) -> None:
        self.notes.append(text)

    def skipped(self, what: str) -> None:
        self.skips.append(what)

    def finished(self, row: ManifestRow) -> None:
        self.rows.append(row)
        print(row.hash, flush=True)
        time.sleep(self._rest)


def run(
    jobs: object, out: object, model: str, *, notes: Notes | None = None, execute: Executor | None = None, **more: Any
) -> tuple[Summary, Notes]:
    """A batch in this process; the size and the steps of a line are small unless it says more."""
    defaults = {"model": model, "steps": 2, "width": 64, "height": 64} | more.pop("defaults", {})
    notes = Notes() if notes is None else notes
    with opened_folder(str(out)) as folder:
        batch = Batch(str(jobs), folder, BatchSettings(defaults, **more), notes)
        return batch.run(execute or in_process(BatchWorker(folder.results))), notes


def write_jobs(path: Path, lines: Iterable[Mapping[str, Any] | str]) -> Path:
    """A JSONL file; a text stands as it is."""
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def pictures(folder: Path) -> dict[str, bytes]:
    """Every picture by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def alone(model: str, jobs: Path, out: Path, rest: float) -> None:
    """What a process of its own does, which tells each picture and then rests for so many seconds."""
    torch.set_num_threads(1)
    run(jobs, out, model, notes=Notes(rest))
