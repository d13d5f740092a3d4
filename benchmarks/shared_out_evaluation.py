"""The pictures of `scalecrafter eval` by several processes at once, into one folder.

A small model leaves most of a GPU idle while one process prepares its next step; sixteen made seven pictures of
critters a second on an H200.  Seconds a picture are then those of a shared machine: compare them within a run at most.

    python -m benchmarks.shared_out_evaluation -o runs/quality --workers 16 256x256:native:128 \
        512x512:direct,scalecrafter,cascade:128 1024x1024:direct,scalecrafter,cascade:32
    scalecrafter eval --report-only -o runs/quality

Stopped at any time or after `--minutes`, the same command goes on; prompts come in their order, all cells together.
A count of 96-128 leaves the first 96 out: another machine's share.  A method that ends in .toml is a recipe, by path.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from scalecrafter.evaluation.inspection import make_inspector
from scalecrafter.evaluation.prompts import critters_prompts
from scalecrafter.evaluation.runs import agree_on_inspector, make_picture, shared_choices, shared_settings
from scalecrafter.evaluation.settings import NATIVE, Choice, EvaluationSettings, Sample, Size
from scalecrafter.evaluation.store import RunFolder
from scalecrafter.models.denoisers import read_model
from scalecrafter.models.loading import load_pipeline
from scalecrafter.request.request import DEFAULT_STEPS, Request, default_guidance
from scalecrafter.request.text import parse_size

FEATURES = "imagenet"


def settings_of(cell: str, model: str, guidance: float | None = None) -> EvaluationSettings:
    """The evaluation that `WxH:method,method:count` stands for; the method `native` is its native pictures."""
    size, methods, count = cell.split(":")
    count = count.rpartition("-")[2]
    chosen_guidance = default_guidance(model) if guidance is None else guidance
    base = Request(prompt="evaluation", model=model, steps=DEFAULT_STEPS, seed=0, guidance=chosen_guidance)
    chosen = tuple(choice_of(name) for name in methods.split(",") if name != NATIVE)
    native = int(count) if NATIVE in methods.split(",") else 0
    stand_in = (Choice("direct", {"method": "direct"}),)
    return EvaluationSettings(
        base, tuple(critters_prompts()), (parse_size(size),), chosen or stand_in, int(count), native
    )


def choice_of(method: str) -> Choice:
    if method.endswith(".toml"):
        return Choice(f"recipe-{Path(method).stem}", {"recipe": method})
    return Choice(method, {"method": method})


def jobs_of(cells: Iterable[str], native: Size, model: str, guidance: float | None = None) -> list[Sample]:
    """All pictures, prompt by prompt, of each prompt the largest first."""
    samples = []
    for cell in cells:
        _, methods, count = cell.split(":")
        first = int(count.rpartition("-")[0] or 0)
        wanted = [NATIVE if name == NATIVE else choice_of(name).label for name in methods.split(",")]
        made = settings_of(cell, model, guidance).samples(native)
        samples += [sample for sample in made if sample.label in wanted and sample.index >= first]
    return sorted(samples, key=lambda sample: (sample.index, -sample.size[0] * sample.size[1]))


def load(model: str) -> Any:
    torch.set_num_threads(1)
    return load_pipeline(model, device="auto")


def work(folder: Path, cells: list[str], model: str, guidance: float | None, taken: Any, deadline: float) -> None:
    """Make pictures until there are none left or the time is over; `taken` counts those that some process has."""
    pipe, store, inspector = load(model), RunFolder(folder), make_inspector(FEATURES, observe=True)
    samples = jobs_of(cells, read_model(pipe).native_size, model, guidance)
    maker = multiprocessing.parent_process()
    while time.time() < deadline and maker is not None and maker.is_alive():  # it may have been killed
        with taken.get_lock():
            number, taken.value = taken.value, taken.value + 1
        if number >= len(samples):
            return
        if not store.finished(samples[number]):
            make_picture(pipe, samples[number], store, inspector)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="+", metavar="WxH:METHOD[,METHOD]:[FIRST-]COUNT")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="critters")
    parser.add_argument("--guidance", type=float, help="of a model that this package does not carry")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, default=float("inf"))
    options = parser.parse_args()
    deadline = time.time() + 60 * options.minutes

    pipe, store = load(options.model), RunFolder(options.output)
    where = torch.cuda.get_device_name(pipe.device) if pipe.device.type == "cuda" else pipe.device.type
    for cell in options.cells:
        settings = settings_of(cell, options.model, options.guidance)
        command = f"python -m benchmarks.shared_out_evaluation --model {options.model} {cell}"
        machine = f"{where}, {options.workers} processes"
        store.claim(shared_settings(pipe, settings), shared_choices(settings), command, machine)
    agree_on_inspector(store, make_inspector(FEATURES, observe=True), lambda _done, _total: None, again=False)

    context = multiprocessing.get_context("spawn")
    taken = context.Value("i", 0)
    shared = (options.output, options.cells, options.model, options.guidance, taken, deadline)
    processes = [context.Process(target=work, args=shared) for _ in range(options.workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a process ended with the error above: mend it, and the same command goes on")
    print(f"{len(store.own_rows())} pictures in {options.output}: scalecrafter eval --report-only -o {options.output}")


if __name__ == "__main__":
    main()
