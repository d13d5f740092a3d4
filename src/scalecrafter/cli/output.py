"""The progress of commands on stderr, and where their files go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .._util.files import check_writable
from ..generation.picture_files import slug
from ..request.request import RequestError

if TYPE_CHECKING:
    from ..generation.generate import Result
    from ..request.request import Request


class Reporter:
    """Progress on stderr: loading, then a bar for each picture."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Reporter:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._bars.disable:  # Rich before 14.3 ends bars that it never drew with an empty line
            self._bars.stop()

    def note(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False)

    def load(self, request: Request, **loading: Any) -> Any:
        """Load the pipeline for a request, with a spinner; `loading` as `load_pipeline` takes it."""
        with self._bar(f"loading {request.model}", None):
            from ..models.loading import load_pipeline

            return load_pipeline(request.model, dtype=request.dtype, device=request.device, **loading)

    def picture(self, pipe: Any, request: Request, label: str, make: Callable[..., Result] | None = None) -> Result:
        """Make a picture with a bar, then print a line; `make` is called in the place of `generation.generate`."""
        from ..generation.generate import generate

        with self._bar(label, request.steps) as task:

            def progress(step: int, total: int) -> None:
                done = f"{label}: decoding" if step == total else label
                self._bars.update(task, completed=step, total=total, description=done)

            result = (make or generate)(pipe, request, progress)
        made = result.request
        self.note(f"{label}: seed {made.seed}, {made.width}×{made.height}, {result.seconds:.1f} s")
        for note in result.notes:
            self.note(f"{label}: {note}")
        return result

    @contextmanager
    def working(self, label: str) -> Iterator[Callable[[str], None]]:
        """A spinner; what is given says what is being done now."""
        with self._bar(label, None) as task:
            yield lambda text: self._bars.update(task, description=text)

    @contextmanager
    def _bar(self, label: str, total: int | None) -> Iterator[Any]:
        task = self._bars.add_task(label, total=total)
        try:
            yield task
        finally:
            self._bars.remove_task(task)


def picture_path(output: Path | None, result: Result, several: bool = False, suffix: str = "") -> Path:
    """Where a picture goes: `output`, or a name from prompt and seed, in that folder or here."""
    name = f"{slug(result.request.prompt)}-{result.request.seed}{suffix}.png"
    if output is None:
        return Path(name)
    if is_folder(output, several):
        output.mkdir(parents=True, exist_ok=True)
        return output / name
    return output


def check_output(output: Path | None, several: bool = False) -> None:
    """Refuse an output that cannot be written, before any work is done (`RequestError`, `UnwritableError`)."""
    folder = Path() if output is None else output
    if output is not None and not is_folder(output, several):
        if output.name.lower() == ".png":
            raise RequestError(f"{str(output)!r} has no name before its ending: give one, as fox.png, or a folder")
        if output.suffix.lower() != ".png":
            raise RequestError(f"pictures are written as PNG: let {str(output)!r} end in .png, or name a folder")
        folder = output.parent
        if not folder.is_dir():
            raise RequestError(f"there is no folder {str(folder)!r} to write {output.name!r} into")
    elif folder.exists() and not folder.is_dir():
        raise RequestError(f"several pictures need a folder, and {str(output)!r} is a file")
    check_writable(folder)


def is_folder(output: Path, several: bool) -> bool:
    """Whether an output names a folder for pictures rather than a picture."""
    return several or output.is_dir()
