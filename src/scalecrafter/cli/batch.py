"""`scalecrafter batch`: many pictures from a file, in this process or on Ray."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._util.extras import need_extra
from .app import FAILED, Command, app
from .counting import CountingReporter
from .generate import check_vae_memory_option, notices
from .options import AUTOMATIC, PictureOptions, VaeMemory, spread_options

if TYPE_CHECKING:
    from ..batch.manifest import ManifestRow
    from ..batch.running import Summary

ADDRESS = re.compile(r"local|auto|ray://.+|[^\s/\\]+:\d+")


class _BatchCommand(Command):
    """Allows --ray without an address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spelt = []
        for place, argument in enumerate(args):
            spelt.append(argument)
            following = args[place + 1] if place + 1 < len(args) else ""
            if argument == "--ray" and not ADDRESS.fullmatch(following):
                spelt.append("")
        return super().parse_args(ctx, spelt)


@app.command("batch", cls=_BatchCommand)
@spread_options()
def batch(
    options: PictureOptions,
    jobs: Annotated[
        str,
        typer.Argument(help="Requests, one on each line, as JSONL, CSV or Parquet: a path or fsspec URL."),
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="Folder or fsspec URL. Run the same command again to resume."),
    ],
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            min=1,
            max=1024,
            help="Pictures in one call of the model. \\[default: 1 on a CPU; on a GPU by their size]",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="PATTERN",
            help="Names of the pictures, as {index}-{prompt}. \\[default: the request's hash]",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also try the requests that failed in an earlier run.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="[ADDRESS]",
            help="Run on Ray: at this address, else on the cluster that is found, else on this machine.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="With --ray: how many. \\[default: one a GPU of the cluster, else one for so many CPUs as this "
            "process has threads]",
        ),
    ] = None,
    vae_memory: VaeMemory = AUTOMATIC,
) -> None:
    """Make many pictures, one for each line of a file.  The options are the defaults of its lines.

    Each picture is named by the hash of its request, or by --name, and has a row in manifest.parquet and
    manifest.csv. A request that fails is tried
    up to three times and then reported; the others are made. Stop it at any time, and run the same command to resume.
    """
    need_extra("batch", "batch")
    if ray is not None:
        need_extra("batch --ray", "ray")
    elif workers is not None:
        raise typer.BadParameter("workers are for --ray", param_hint="--workers")
    check_vae_memory_option(vae_memory)
    defaults = options.values()

    from ..batch.jobs import check_jobs

    check_jobs(jobs, defaults)

    from ..batch.names import NameTemplate

    names = None if name is None else NameTemplate(name)

    from ..batch.folder import opened_folder
    from ..batch.running import Batch, BatchSettings, in_process
    from ..batch.worker import BatchWorker

    settings = BatchSettings(defaults, batch_size, retry_failed, names)
    with BatchReporter() as reporter, notices(reporter), _stopped_gently(reporter), opened_folder(output) as folder:
        run = Batch(jobs, folder, settings, reporter, on_gpu=None)
        try:
            if ray is None:
                summary = run.run(in_process(BatchWorker(folder.results, vae_memory)))
            else:
                from ..batch.on_ray import ray_cluster

                with ray_cluster(ray, workers, reporter.note) as cluster:
                    run.on_gpu = cluster.has_gpus
                    summary = run.run(cluster.executor(folder.storage, vae_memory))
        except KeyboardInterrupt:
            reporter.note(
                f"{run.summary.made} pictures were made and stay in {output}: run the same command again to resume"
            )
            raise
    _tell(reporter, summary, output)
    if summary.failed or summary.failed_before:
        raise typer.Exit(FAILED)


class BatchReporter(CountingReporter):
    """Watches a batch (`batch.running.BatchListener`)."""

    is_to_stop = False
    """Whether somebody asked it to stop."""

    def __enter__(self) -> BatchReporter:
        super().__enter__()
        return self

    def begin(self, total: int) -> None:
        """Show how many lines there are."""
        self.start_counting(0, total)

    def step(self, step: int, steps: int) -> None:
        """Show a step of denoising."""
        if self.is_to_stop:
            raise KeyboardInterrupt
        self.describe(f"pictures: step {step}/{steps}")

    def skipped(self, what: str) -> None:
        """Count a line that needs no picture."""
        self.count(what, worked=False)

    def finished(self, row: ManifestRow) -> None:
        """A picture is written, or has failed."""
        if row.status == "failed":
            self.count(f"line {row.line} failed", worked=row.attempts > 0)
        else:
            self.count(f"line {row.line} took {row.seconds or 0:.1f} s")


def _tell(reporter: BatchReporter, summary: Summary, output: str) -> None:
    counts = {
        "made": summary.made,
        "there already": summary.there,
        "duplicate lines": summary.duplicates,
        "failed": summary.failed,
        "failed in an earlier run (--retry-failed tries again)": summary.failed_before,
    }
    reporter.note(", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing to do")
    for reason in summary.reasons:
        reporter.note(f"  {reason}")
    failed = summary.failed + summary.failed_before
    if failed > len(summary.reasons):
        reporter.note(f"  and {failed - len(summary.reasons)} more: the column error of manifest.parquet has them all")
    print(output)


@contextmanager
def _stopped_gently(reporter: BatchReporter) -> Iterator[None]:
    """Treat SIGTERM, which clusters send before they end a process, as Ctrl-C.

    An exception that a handler raises is lost where Python cannot pass it on, as in `__del__`: so the next step raises
    it again.
    """

    def stop(*_: object) -> None:
        reporter.is_to_stop = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
