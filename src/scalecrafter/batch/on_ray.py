"""The work of a batch on a Ray cluster: Ray Data with a pool of actors, each of which holds a loaded pipeline.

A worker writes its pictures and rows itself, so all workers must be able to reach the batch's folder. Ray replaces a
worker that dies and runs its group again, any number of times. A worker looks for finished pictures first, so none is
made twice. A small actor counts the attempts at each request. A request that kills its worker every time is given up
after the usual number of attempts, and the other requests are made.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import ScaleCrafterError
from ..methods.steps.denoising import Progress
from ..request.request import Request, RequestError
from ..vae import MemoryBudget
from .folder import Results, now
from .jobs import BatchTask
from .manifest import ManifestRow
from .running import Executor
from .storage import Storage, StorageError
from .worker import ATTEMPTS, BatchWorker, columns_of

BLOCKS = 20_000
"""Of groups, at most. When a worker dies, its block runs again."""
OBJECT_STORE = 256 << 20
"""Bytes of shared memory that Ray gets on this machine. Requests and rows pass through it, pictures do not."""


@dataclass(frozen=True)
class Cluster:
    """A connected Ray cluster."""

    workers: int
    has_gpus: bool
    cpus_each: int = 1
    """CPU slots of each worker."""
    threads: int = 1
    """Of each worker: as many as this process has, because rounding on a CPU depends on the number."""
    say: Callable[[str], None] = lambda _text: None
    """Is told what happens."""

    def executor(self, storage: Storage, vae_memory: MemoryBudget) -> Executor:
        """Makes groups on the cluster's workers (`RequestError` for a folder that they cannot reach)."""
        if storage.protocol == "memory":
            raise RequestError(
                f"{storage.url!r} is the memory of one process, which workers cannot reach: name a shared folder"
            )

        def execute(groups: Iterator[list[BatchTask]], _progress: Progress) -> Iterator[ManifestRow]:
            encoded = [{"tasks": _encoded(group)} for group in groups]
            if encoded:
                pictures = sum(len(json.loads(group["tasks"])) for group in encoded)
                loading = min(self.workers, len(encoded))
                self.say(f"Ray: {pictures} pictures to make; {loading} workers start and load their models")
                yield from self._make(encoded, storage, vae_memory)

        return execute

    def _make(self, groups: list[dict[str, str]], storage: Storage, vae_memory: MemoryBudget) -> Iterator[ManifestRow]:
        import ray
        import ray.data

        attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
        dataset = ray.data.from_items(groups, override_num_blocks=min(len(groups), BLOCKS)).map(
            RayWorker,
            fn_constructor_args=(storage.url, vae_memory, os.getcwd(), self.threads, attempts),
            compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(groups)), max_tasks_in_flight_per_actor=1),
            num_cpus=self.cpus_each,
            num_gpus=1 if self.has_gpus else 0,
        )
        try:
            for answer in dataset.iter_rows():
                for values in json.loads(answer["rows"]):
                    yield ManifestRow(**values)
                if answer["fatal"]:
                    raise StorageError(answer["fatal"])
        except ray.exceptions.RayError as error:
            raise ScaleCrafterError(
                f"Ray stopped: {_first_line(error)}. What was made stays; the same command goes on from there"
            ) from error


class Attempts:
    """The number of attempts at each request. It is an actor of its own, which outlives the workers."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def begin(self, hashes: list[str]) -> int:
        """Count one more attempt at each; the answer is the largest number before."""
        before = max(self._counts[name] for name in hashes)
        self._counts.update(hashes)
        return before


class RayWorker:
    """A `BatchWorker` inside a Ray actor; its arguments and answers are texts."""

    def __init__(self, url: str, vae_memory: MemoryBudget, folder: str, threads: int, attempts: Any) -> None:
        if os.path.isdir(folder):  # relative paths of models and images start there
            os.chdir(folder)
        torch.set_num_threads(threads)
        self._results = Results(url)
        self._worker = BatchWorker(self._results, vae_memory)
        self._attempts = attempts

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        fatal = ""
        try:
            rows.extend(row.model_dump() for row in self._make(_decoded(row["tasks"])))
        except StorageError as error:
            fatal = str(error)
        return {"rows": json.dumps(rows), "fatal": fatal}

    def _make(self, tasks: list[BatchTask]) -> Iterator[ManifestRow]:
        """Make a group. If a worker died with it before, make each task alone, at most `ATTEMPTS` times."""
        missing = [task.hash for task in tasks if not self._results.has(task.file)]
        if len(tasks) > 1 and (not missing or not self._begun(missing)):
            yield from self._worker.make(tasks)
            return
        for task in tasks:
            if task.hash in missing and self._begun([task.hash]) >= ATTEMPTS:
                yield self._given_up(task)
            else:
                yield from self._worker.make([task])

    def _begun(self, hashes: list[str]) -> int:
        import ray

        return int(ray.get(self._attempts.begin.remote(hashes)))

    def _given_up(self, task: BatchTask) -> ManifestRow:
        row = ManifestRow(
            hash=task.hash,
            line=task.line,
            request=task.request.model_dump_json(),
            columns=columns_of(task),
            status="failed",
            attempts=ATTEMPTS,
            error="the worker died each time it made this picture (out of memory, or a fault of a driver?)",
            finished=now(),
        )
        self._results.note(row)
        return row


@contextmanager
def ray_cluster(
    address: str, workers: int | None, say: Callable[[str], None] = lambda _text: None
) -> Iterator[Cluster]:
    """A connection to Ray for a `with` block. A cluster that was started for it stops with it.

    Args:
        address: of a cluster; "auto": the one on this machine; "local": a new one; "": an existing one (RAY_ADDRESS, or
            on this machine), or else a new one.
        workers: how many. None: one per GPU of the cluster; without GPUs, the CPUs over the threads of this process.
        say: is told what happens, in lines.

    Raises:
        RequestError: there is no cluster at the address, or it has fewer slots than workers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    _connect(address, workers, say)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        slots = ray.cluster_resources()
        gpus, cpus = int(slots.get("GPU", 0)), int(slots.get("CPU", 0))
        threads = torch.get_num_threads()
        there = gpus or (cpus if workers else max(cpus // threads, 1))
        if (workers or 1) > there:
            raise RequestError(
                f"{workers or 1} workers are asked for, and the cluster has {gpus} GPUs and {cpus} CPUs: a worker "
                f"takes a GPU where there are any, else a CPU. Give --workers {there} or fewer"
            )
        number = workers or there
        cpus_each = 1 if gpus else max(min(threads, cpus // number), 1)
        machines = sum(node["Alive"] for node in ray.nodes())
        each = "a GPU" if gpus else f"{cpus_each} CPU{'s' if cpus_each > 1 else ''}"
        say(f"Ray: {number} workers with {each} each, of {gpus} GPUs and {cpus} CPUs on {machines} machines")
        yield Cluster(number, gpus > 0, cpus_each, threads, say)
    finally:
        ray.shutdown()


def _connect(address: str, workers: int | None, say: Callable[[str], None]) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    named = address or os.environ.get("RAY_ADDRESS", "")
    if named != "local":
        say(f"Ray: connecting to {named}" if named else "Ray: looking for a cluster on this machine")
        _must_answer(named)
        try:
            ray.init(address=named or "auto", **quiet)
            return
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            if named:
                raise RequestError(f"there is no Ray cluster at {named!r}: {_first_line(error)}") from None
    say("Ray: starting a cluster on this machine, which takes some seconds")
    ray.init(address="local", num_cpus=workers, include_dashboard=False, object_store_memory=OBJECT_STORE, **quiet)


def _must_answer(address: str) -> None:
    """Refuse an address where nothing listens; Ray would wait very long for it (`RequestError`)."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not (separator and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise RequestError(f"there is no Ray cluster at {address!r}: {_first_line(error)}") from None


def _encoded(group: list[BatchTask]) -> str:
    tasks = [
        [task.line, task.hash, task.request.model_dump(mode="json"), task.name, dict(task.columns)] for task in group
    ]
    return json.dumps(tasks, default=str)


def _decoded(text: str) -> list[BatchTask]:
    return [
        BatchTask(line, hash, Request.from_mapping(request), name, columns)
        for line, hash, request, name, columns in json.loads(text)
    ]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
