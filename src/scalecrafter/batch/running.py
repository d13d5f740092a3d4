"""A batch from its first line to its last. Finished pictures stay; missing ones are made.

An `Executor` makes the pictures, in this process or on Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .._util.sizes import ModelSizes
from ..cost.estimate import dtype_for, in_words
from ..errors import ModelError, ScaleCrafterError
from ..generation.timings import Place, architecture_digest, place_at
from ..methods.steps.denoising import Progress
from ..models.denoisers import read_model
from ..models.loading import load_outline, resolve_device
from .columns import known_columns
from .folder import BatchFolder, now
from .foretelling import foretold
from .groups import GPU_AREA, WINDOW, grouped
from .jobs import BatchTask, Line, count_lines, read_lines, to_request, to_task
from .manifest import ManifestRow
from .names import NameTemplate
from .worker import BatchWorker, columns_of, message_of


class BatchListener(Protocol):
    """Called during a batch. A KeyboardInterrupt in it stops the batch; finished pictures stay."""

    def begin(self, total: int) -> None:
        """Before the first line; `total` is the number of lines."""

    def step(self, step: int, steps: int) -> None:
        """After each step of denoising, if the executor reports steps."""

    def skipped(self, what: str) -> None:
        """A line that needs no picture: "there already", "duplicate" or "failed before"."""

    def note(self, text: str) -> None:
        """Something that people should know, in one line."""

    def finished(self, row: ManifestRow) -> None:
        """A picture is safe, or has failed."""


Executor = Callable[[Iterator[list[BatchTask]], Progress], Iterable[ManifestRow]]
"""Makes groups of tasks. It is called with the groups and a progress callback; its rows are already written."""


@dataclass
class Summary:
    """The result of a batch."""

    made: int = 0
    failed: int = 0
    there: int = 0
    """Pictures that were there before."""
    duplicates: int = 0
    """Lines with the same request as an earlier line."""
    failed_before: int = 0
    """Requests that failed in an earlier run, and were not tried again."""
    reasons: list[str] = field(default_factory=list)
    """Why the first ones failed."""


@dataclass(frozen=True)
class BatchSettings:
    """The settings of a batch."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    """For values that a line does not have."""
    batch_size: int | None = None
    """Pictures in one call. None: one on a CPU; on a GPU as many as `groups.GPU_AREA` allows."""
    retry_failed: bool = False
    """Try failed requests of earlier runs again."""
    name: NameTemplate | None = None
    """Of files; None: the hash."""


REASONS = 5


class Batch:
    """One run of a batch."""

    def __init__(
        self,
        jobs: str,
        folder: BatchFolder,
        settings: BatchSettings,
        listener: BatchListener,
        on_gpu: bool | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            jobs: path or URL of the jobs file.
            folder: where pictures go.
            settings: of the batch.
            listener: is called during the batch.
            on_gpu: whether the workers have GPUs; None: the device of each request decides.
        """
        self.summary = Summary()
        self._jobs, self._folder, self._settings = jobs, folder, settings
        self._listener, self.on_gpu = listener, on_gpu
        self._told_columns: set[str] = set()
        self._architectures: dict[str, ModelSizes | ModelError] = {}
        self._digests: dict[str, str] = {}

    def run(self, execute: Executor) -> Summary:
        """Make everything that is missing.

        Raises:
            RequestError: the jobs file cannot be read.
            StorageError: the folder cannot be written any more; finished pictures stay.
        """
        lines, tasks = count_lines(self._jobs), self._missing()
        self._listener.begin(lines)
        if lines <= WINDOW and self.on_gpu is None:  # all are looked at before the first picture anyway, and made here
            tasks = self._foretell(list(tasks))
        groups = grouped(tasks, self._batch_size)
        for row in execute(groups, self._listener.step):
            self._count(row)
        return self.summary

    def _foretell(self, tasks: list[BatchTask]) -> Iterator[BatchTask]:
        """Say what these tasks will take in all, where that is known; the tasks."""
        seconds = foretold(tasks, self._place) if tasks else None
        if seconds is not None:
            self._listener.note(f"{len(tasks)} to make, about {in_words(seconds)} in all, by the last pictures here")
        return iter(tasks)

    def _place(self, task: BatchTask) -> Place:
        request = task.request
        device = resolve_device(request.device)
        dtype = dtype_for(request, self._architecture(request.model), device)
        return place_at(self._digests[request.model], device, dtype)

    def _missing(self) -> Iterator[BatchTask]:
        """The tasks to make; the other lines are counted."""
        seen: set[bytes] = set()
        for index, line in enumerate(read_lines(self._jobs), 1):
            try:
                task = self._task(line, index)
            except ScaleCrafterError as error:
                row = _no_task(line, error)
                self._folder.results.note(row)
                self._count(row)
                continue
            key = bytes.fromhex(task.hash)
            known = self._folder.rows.get(task.hash)
            if key in seen:
                self.summary.duplicates += 1
                self._listener.skipped("duplicate")
            elif (file := self._folder.made(task)) is not None:
                if known is None or known.status != "made":  # the manifest was deleted, or written before the picture
                    self._folder.results.note(_made_before(task, file))
                self.summary.there += 1
                self._listener.skipped("there already")
            elif known is not None and known.status == "failed" and not self._settings.retry_failed:
                self.summary.failed_before += 1
                self._remember(known)
                self._listener.skipped("failed before")
            else:
                yield task if self._settings.name is None else self._folder.named(task)
            seen.add(key)

    def _task(self, line: Line, index: int) -> BatchTask:
        request = to_request(line, self._settings.defaults)
        if self.on_gpu is None:
            resolve_device(request.device)  # a missing device is an error of this line
        task = to_task(line, request, self._architecture(request.model))
        self._tell_columns(task)
        if self._settings.name is None:
            return task
        return replace(task, name=self._settings.name.name(task.request, task.hash, index, line.number))

    def _tell_columns(self, task: BatchTask) -> None:
        """Say once of each column that it is no setting."""
        new = [name for name in task.columns if name not in self._told_columns]
        if new:
            self._told_columns.update(new)
            names = ", ".join(repr(name) for name in new)
            self._listener.note(
                f"note: {names} is no setting, and is kept in the manifest's columns. "
                f"Settings: {', '.join(known_columns())}"
            )

    def _architecture(self, model: str) -> ModelSizes:
        """The architecture of a model, if possible without its weights. A missing model is looked for only once."""
        if model not in self._architectures:
            try:
                outline = load_outline(model)
                self._architectures[model] = read_model(outline)
                self._digests[model] = architecture_digest(outline)
            except ModelError as error:
                self._architectures[model] = error
        found = self._architectures[model]
        if isinstance(found, ModelError):
            raise found
        return found

    def _batch_size(self, task: BatchTask) -> int:
        if self._settings.batch_size is not None:
            return self._settings.batch_size
        request = task.request
        on_gpu = self.on_gpu if self.on_gpu is not None else resolve_device(request.device).type != "cpu"
        if request.device == "cpu" or not on_gpu:
            return 1
        architecture = self._architecture(request.model)
        native = architecture.native_size.width * architecture.native_size.height
        assert request.width is not None
        assert request.height is not None
        return max(GPU_AREA * native // (request.width * request.height), 1)

    def _count(self, row: ManifestRow) -> None:
        if row.status == "made":
            self.summary.made += 1
        else:
            self.summary.failed += 1
            self._remember(row)
        self._listener.finished(row)

    def _remember(self, row: ManifestRow) -> None:
        if row.error is not None and len(self.summary.reasons) < REASONS:
            names_line = row.error.startswith("line ")
            self.summary.reasons.append(row.error if names_line else f"line {row.line}: {row.error}")


def in_process(worker: BatchWorker) -> Executor:
    """Makes pictures in this process, one group after another."""

    def execute(groups: Iterator[list[BatchTask]], progress: Progress) -> Iterator[ManifestRow]:
        for group in groups:
            yield from worker.make(group, progress)

    return execute


def _no_task(line: Line, error: ScaleCrafterError) -> ManifestRow:
    reason, prefix = message_of(error), f"line {line.number}: "
    reason = reason if reason.startswith(prefix) else prefix + reason
    return ManifestRow(hash=None, line=line.number, request=None, status="failed", error=reason, finished=now())


def _made_before(task: BatchTask, file: str) -> ManifestRow:
    return ManifestRow(
        hash=task.hash,
        line=task.line,
        request=task.request.model_dump_json(),
        status="made",
        file=file,
        columns=columns_of(task),
        finished=now(),
    )
