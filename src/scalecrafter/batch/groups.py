"""Groups of tasks that are made in one call of the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from ..request.batching import batch_key
from .jobs import BatchTask

WINDOW = 1024
"""So many tasks are looked at to find those of one batch key and of one model."""
GPU_AREA = 16
"""On a GPU, as many pictures go together as have no more pixels than this many native ones: one at four times the
native side, four at twice it.  Reasoned, not measured: what fits at four times the side is left to `--fit`'s advice."""

Model = tuple[str, str | None, str]


def model_of(task: BatchTask) -> Model:
    """What has to be loaded for a task."""
    return task.request.model, task.request.dtype, task.request.device


def grouped(
    tasks: Iterable[BatchTask], most: Callable[[BatchTask], int], window: int = WINDOW
) -> Iterator[list[BatchTask]]:
    """Tasks in groups of one batch key, those of one model one after the other, in the order of their first lines.

    Args:
        tasks: read as they are needed, `window` at a time.
        most: how many may go with a task.
        window: the number of tasks that are sorted.
    """
    tasks = iter(tasks)
    while chunk := list(islice(tasks, window)):
        models: dict[Model, dict[str, list[BatchTask]]] = {}
        for task in chunk:
            key = batch_key(task.request) or task.hash
            models.setdefault(model_of(task), {}).setdefault(key, []).append(task)
        for keys in models.values():
            groups = [group for alike in keys.values() for group in _split(alike, most(alike[0]))]
            yield from sorted(groups, key=lambda group: group[0].line)


def _split(alike: list[BatchTask], most: int) -> list[list[BatchTask]]:
    return [alike[first : first + most] for first in range(0, len(alike), most)]
