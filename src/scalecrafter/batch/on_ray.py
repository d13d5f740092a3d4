"""The work of a batch on a Ray cluster: Ray Data with a pool of actors, each of which holds a loaded pipeline.

A worker writes its pictures and rows itself, into the batch's folder, which all of them must be able to reach.  One
that dies is replaced by Ray, which runs its group again for as long as it takes; what was written before is not made
twice, since a worker looks first.  A small actor counts how often each request was begun, so that one that kills its
worker every time is given up after the usual attempts, and takes no other with it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections import Counter
from collections.abc import Iterator
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
from .worker import ATTEMPTS, BatchWorker

BLOCKS = 20_000
"""Ray Data moves groups in this many blocks at most; what runs again when a worker dies is a block."""
OBJECT_STORE = 256 << 20
"""Bytes of shared memory that Ray gets on this machine; only requests and rows pass through it, never pictures."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that is there."""

    workers: int
    has_gpus: bool
    cpus_each: int = 1
    """CPU slots that Ray keeps for a worker."""
    threads: int = 1
    """Of each worker; those of this process, since a CPU rounds differently with another number."""

    def executor(self, place: Storage, vae_memory: MemoryBudget) -> Executor:
        """Make groups on the cluster's workers (`RequestError` for a folder that they cannot reach)."""
        if place.protocol == "memory":
            raise RequestError(
                f"{place.url!r} is the memory of one process, which workers cannot reach: name a shared folder"
            )

        def execute(groups: Iterator[list[BatchTask]], _progress: Progress) -> Iterator[ManifestRow]:
            encoded = [{"tasks": _encoded(group)} for group in groups]
            if encoded:
                yield from self._make(encoded, place, vae_memory)

        return execute

    def _make(self, groups: list[dict[str, str]], place: Storage, vae_memory: MemoryBudget) -> Iterator[ManifestRow]:
        import ray
        import ray.data

        attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
        dataset = ray.data.from_items(groups, override_num_blocks=min(len(groups), BLOCKS)).map(
            RayWorker,
            fn_constructor_args=(place.url, vae_memory, os.getcwd(), self.threads, attempts),
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
    """How often each request was begun; an actor of its own, which outlives the workers."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def begin(self, hashes: list[str]) -> int:
        """One more for each; the most that there were before."""
        before = max(self._counts[name] for name in hashes)
        self._counts.update(hashes)
        return before


class RayWorker:
    """What runs in an actor: a `BatchWorker`, spoken to in plain texts."""

    def __init__(self, url: str, vae_memory: MemoryBudget, folder: str, threads: int, attempts: Any) -> None:
        if os.path.isdir(folder):  # where relative paths of models and images are meant from
            os.chdir(folder)
        torch.set_num_threads(threads)
        self._results = Results(url)
        self._worker = BatchWorker(self._results, vae_memory)
        self._beginnings = attempts

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        fatal = ""
        try:
            rows.extend(row.model_dump() for row in self._make(_decoded(row["tasks"])))
        except StorageError as error:
            fatal = str(error)
        return {"rows": json.dumps(rows), "fatal": fatal}

    def _make(self, tasks: list[BatchTask]) -> Iterator[ManifestRow]:
        """Make a group; if a worker died with it before, each alone, and none more often than `ATTEMPTS`."""
        missing = [task.hash for task in tasks if not self._results.has(task.hash)]
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

        return int(ray.get(self._beginnings.begin.remote(hashes)))

    def _given_up(self, task: BatchTask) -> ManifestRow:
        row = ManifestRow(
            hash=task.hash,
            line=task.line,
            request=task.request.model_dump_json(),
            status="failed",
            attempts=ATTEMPTS,
            error="the worker died while it made this, each time (out of memory, or a fault of a driver?)",
            finished=now(),
        )
        self._results.note(row)
        return row


@contextmanager
def ray_cluster(address: str, workers: int | None) -> Iterator[Cluster]:
    """A connection to Ray for the length of a `with` block; a cluster that it started ends with it.

    Args:
        address: of a cluster, "auto" for the one of this machine, "local" for a new one; empty takes the one that is
            there (RAY_ADDRESS, or this machine's), else starts one.
        workers: how many; None: one a GPU of the cluster, else one for so many CPUs as this process has threads.

    Raises:
        RequestError: where there is no cluster at the address, or it has fewer slots than workers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    _connect(address, workers)
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
                "takes a GPU where there are any, else a CPU"
            )
        number = workers or there
        yield Cluster(number, gpus > 0, 1 if gpus else max(min(threads, cpus // number), 1), threads)
    finally:
        ray.shutdown()


def _connect(address: str, workers: int | None) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    named = address or os.environ.get("RAY_ADDRESS", "")
    if named != "local":
        _must_answer(named)
        try:
            ray.init(address=named or "auto", **quiet)
            return
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            if named:
                raise RequestError(f"there is no Ray cluster at {named!r}: {_first_line(error)}") from None
    ray.init(address="local", num_cpus=workers, include_dashboard=False, object_store_memory=OBJECT_STORE, **quiet)


def _must_answer(address: str) -> None:
    """Refuse an address where nobody listens, for which Ray would wait very long (`RequestError`)."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not (separator and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise RequestError(f"there is no Ray cluster at {address!r}: {_first_line(error)}") from None


def _encoded(group: list[BatchTask]) -> str:
    return json.dumps([[task.line, task.hash, task.request.model_dump(mode="json")] for task in group])


def _decoded(text: str) -> list[BatchTask]:
    return [BatchTask(line, name, Request.from_mapping(request)) for line, name, request in json.loads(text)]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
