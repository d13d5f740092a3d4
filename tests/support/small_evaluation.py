"""An evaluation of a tiny random pipeline, for tests, also as a process that can be killed (`alone`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from scalecrafter.evaluation.estimate import PlannedCell
from scalecrafter.evaluation.inspection import Inspector
from scalecrafter.evaluation.prompts import Prompt
from scalecrafter.evaluation.runs import agree_on_inspector, make_pictures, shared_choices, shared_settings
from scalecrafter.evaluation.settings import Choice, EvaluationSettings, Sample
from scalecrafter.evaluation.store import RunFolder
from scalecrafter.request.request import Request
from tests.support.disc_observer import disc_inspector, uncounted
from tests.support.tiny_models import tiny_sd_pipeline

PROMPTS = (Prompt("a red disc", {"colour": "red"}), Prompt("a blue disc", {"colour": "blue"}))
DIRECT, UPSCALE = Choice("direct", {"method": "direct"}), Choice("upscale", {"method": "upscale"})


class Notes:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.cells: list[PlannedCell] = []
        self.begun: list[tuple[int, int]] = []
        self.made: list[tuple[str, tuple[int, int], int]] = []
        self.steps: list[tuple[str, int, int]] = []
        self.seconds: list[float] = []

    def planned(self, cells: Sequence[PlannedCell]) -> None:
        self.cells += cells

    def begin(self, done: int, total: int) -> None:
        self.begun.append((done, total))

    def step(self, sample: Sample, step: int, steps: int) -> None:
        self.steps.append((sample.label, step, steps))

    def finished(self, sample: Sample, seconds: float) -> None:
        self.made.append((sample.label, sample.size, sample.index))
        self.seconds.append(seconds)
        print(sample.label, sample.index, flush=True)


def small_settings(**changed: Any) -> EvaluationSettings:
    values: dict[str, Any] = {
        "base": Request(prompt="evaluation", model="tiny", seed=0, steps=2, guidance=2.0),
        "prompts": PROMPTS,
        "sizes": ((256, 128),),
        "choices": (DIRECT, UPSCALE),
        "pictures": 2,
        "native_pictures": 2,
    }
    return EvaluationSettings(**(values | changed))


def run(
    folder: Path, settings: EvaluationSettings | None = None, pipe: Any = None, inspector: Inspector | None = None
) -> Notes:
    """Claim a folder, and make what it lacks."""
    settings = small_settings() if settings is None else settings
    pipe = tiny_sd_pipeline(layers_per_block=1) if pipe is None else pipe
    inspector = disc_inspector() if inspector is None else inspector
    store = RunFolder(folder)
    store.claim(shared_settings(pipe, settings), shared_choices(settings), "scalecrafter eval")
    agree_on_inspector(store, inspector, uncounted, again=False)
    notes = Notes()
    make_pictures(pipe, settings, store, inspector, notes)
    return notes


def alone(folder: Path, pictures: int, threads: int, largest_file: int | None = None) -> None:
    """What a process of its own does; a limit on the size of files stands for a full disk."""
    torch.set_num_threads(threads)
    if largest_file is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    run(folder, small_settings(pictures=pictures, native_pictures=0))
