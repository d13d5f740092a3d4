"""A worker: it holds one pipeline, makes tasks, and returns a row for each.

The same worker runs in the batch's own process and on a Ray cluster. An error with a picture becomes a failed row. An
error with the folder (a full disk) ends the batch.
"""

from __future__ import annotations

import gc
import json
import os
import platform
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import ModelError, ScaleCrafterError
from ..generation.generate import Result, generate_many
from ..generation.picture_files import package_versions
from ..methods.steps.denoising import Progress
from ..models.loading import load_pipeline
from ..request.request import Request
from ..vae import AUTO, MemoryBudget
from .folder import Results, now
from .groups import Model, model_of
from .jobs import BatchTask
from .manifest import ManifestRow

ATTEMPTS = 3
"""A request that fails is tried again at most twice."""


class BatchWorker:
    """Makes tasks, one group after another."""

    def __init__(self, results: Results, vae_memory: MemoryBudget = AUTO) -> None:
        self.results = results
        self._vae_memory = vae_memory
        self._model: Model | None = None
        self._pipe: Any = None
        self._problem: ScaleCrafterError | None = None

    def make(self, tasks: Sequence[BatchTask], progress: Progress | None = None) -> Iterator[ManifestRow]:
        """Make tasks with one batch key, without those that are there already. The row comes when a picture is safe.

        If a group fails, its tasks are tried one by one; this is their second attempt.

        Raises:
            StorageError: nothing can be written any more.
        """
        missing = []
        for task in tasks:
            if self.results.has(task.file):
                yield _row(task, status="made", file=task.file)
            else:
                missing.append(task)
        first_attempt = 1
        if len(missing) > 1:
            try:
                results = self._generate(missing, progress)
            except Exception:
                first_attempt = 2
                release_memory()
            else:
                for task, result in zip(missing, results, strict=True):
                    yield self._kept(task, result, 1)
                return
        for task in missing:
            yield self._made_alone(task, progress, first_attempt)

    def _made_alone(self, task: BatchTask, progress: Progress | None, first_attempt: int) -> ManifestRow:
        """Try a task until it is made, or has failed too often."""
        for attempt in range(first_attempt, ATTEMPTS + 1):
            try:
                result = self._generate([task], progress)[0]
            except Exception as error:
                if attempt == ATTEMPTS or getattr(error, "users_fault", False):
                    row = _row(task, status="failed", attempts=attempt, error=message_of(error))
                    self.results.note(row)
                    return row
                release_memory()
            else:
                return self._kept(task, result, attempt)
        raise AssertionError("the last attempt returns")

    def _kept(self, task: BatchTask, result: Result, attempts: int) -> ManifestRow:
        row = _row(
            task,
            status="made",
            file=task.file,
            seconds=result.seconds,
            attempts=attempts,
            versions=json.dumps(package_versions()),
            environment=json.dumps(dict(result.environment)),
        )
        self.results.keep(row, result)
        return row

    def _generate(self, tasks: Sequence[BatchTask], progress: Progress | None) -> list[Result]:
        requests: list[Request] = [task.request for task in tasks]
        return generate_many(self._pipeline(tasks[0]), requests, progress, vae_memory=self._vae_memory)

    def _pipeline(self, task: BatchTask) -> Any:
        """The pipeline of a task (`ModelError`; a model that cannot be loaded is tried only once)."""
        model = model_of(task)
        if model != self._model:
            self._pipe = self._problem = None  # before the next one is loaded, so that there is never more than one
            release_memory()
            self._model = model
            name, dtype, device = model
            try:
                self._pipe = load_pipeline(name, dtype=dtype, device=device)
            except ModelError as error:
                self._problem = error
        if self._problem is not None:
            raise self._problem
        return self._pipe


def message_of(error: Exception) -> str:
    """Why a request failed, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ScaleCrafterError) else f"{type(error).__name__}: {text}"


def columns_of(task: BatchTask) -> str | None:
    """The columns of a task's line that are no settings, as JSON; None without any."""
    return json.dumps(dict(task.columns), default=str, ensure_ascii=False) if task.columns else None


def release_memory() -> None:
    """Free unused memory, also on a GPU."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _row(task: BatchTask, **values: Any) -> ManifestRow:
    return ManifestRow(
        hash=task.hash,
        line=task.line,
        request=task.request.model_dump_json(),
        columns=columns_of(task),
        worker=f"{platform.node()}:{os.getpid()}",
        finished=now(),
        **values,
    )
