"""`scalecrafter generate`: pictures from prompts, or a picture made again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._util.memory import parse_memory_budget
from ..errors import ScaleCrafterError
from ..generation.checks import check_request
from ..request.request import Request, RequestError
from ..request.text import prompts_from_file
from .app import Command, app
from .options import AUTOMATIC, PictureOptions, VaeMemory, spread_options
from .output import Reporter, check_output, picture_path

if TYPE_CHECKING:
    from ..generation.generate import Result


@app.command("generate", cls=Command)
@spread_options()
def generate(
    options: PictureOptions,
    prompt: Annotated[str | None, typer.Argument(help="What the picture shows.", show_default=False)] = None,
    prompt_file: Annotated[
        Path | None, typer.Option("--prompt-file", help="File with a prompt on each line; one picture for each.")
    ] = None,
    from_picture: Annotated[
        Path | None, typer.Option("--from", help="Repeat this picture; other options change its settings.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="PNG file or folder; no file is replaced. \\[default: named by prompt and seed, here]",
        ),
    ] = None,
    vae_memory: VaeMemory = AUTOMATIC,
    fit: Annotated[
        bool, typer.Option("--fit", help="Try settings until the picture fits in memory, and print which did.")
    ] = False,
) -> None:
    """Make a picture from a prompt, and print its path.  The file carries the whole request."""
    requests = _requests(options, prompt, prompt_file, from_picture)
    several = len(requests) > 1
    check_output(output, several)
    check_vae_memory_option(vae_memory)
    check_request(requests[0], options.config)  # they differ in their prompts alone

    from ..generation.picture_files import save_picture

    with Reporter() as reporter, notices(reporter):
        if from_picture is not None:
            _tell_changed_versions(reporter, from_picture)
        pipe = reporter.load(requests[0], **options.loading)
        make = maker(reporter, vae_memory, fit)
        for number, request in enumerate(requests, 1):
            label = f"picture {number}/{len(requests)}" if several else "picture"
            result = reporter.picture(pipe, request, label, make)
            print(save_picture(result, picture_path(output, result, several), replace=False), flush=True)


def _requests(
    options: PictureOptions, prompt: str | None, prompt_file: Path | None, from_picture: Path | None
) -> list[Request]:
    if prompt is not None and prompt_file is not None:
        raise RequestError("give a prompt or --prompt-file, not both")
    if prompt is None and prompt_file is None and from_picture is None:
        raise RequestError('there is no prompt: give one ("a blue fox in the snow"), --prompt-file or --from')
    base = None
    if from_picture is not None:
        from ..generation.picture_files import read_request

        base = read_request(from_picture)
    prompts = prompts_from_file(prompt_file) if prompt_file is not None else [prompt]
    return [options.request(line, base) for line in prompts]


def check_vae_memory_option(size: str) -> None:
    """Refuse a --vae-memory that cannot be read, before any work is done (`RequestError`)."""
    try:
        parse_memory_budget(size, "--vae-memory")
    except ScaleCrafterError as error:
        raise RequestError(str(error)) from None


def maker(reporter: Reporter, vae_memory: str, fit: bool) -> Callable[..., Result]:
    """The function that makes a picture: as asked for, or with settings that are found to fit in memory."""
    if fit:
        from ..generation.auto_fit import generate_auto_fit

        return partial(generate_auto_fit, vae_memory=vae_memory, report=reporter.note)
    from ..generation.generate import generate

    return partial(generate, vae_memory=vae_memory)


@contextmanager
def notices(reporter: Reporter) -> Iterator[None]:
    """Print the notices of the VAE as lines on stderr."""
    from ..vae import VaeNotice

    with warnings.catch_warnings():
        warnings.simplefilter("always", VaeNotice)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, VaeNotice):
                reporter.note(f"note: {message}")
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = show
        yield


def _tell_changed_versions(reporter: Reporter, picture: Path) -> None:
    from ..generation.picture_files import changed_versions, read_metadata

    changed = changed_versions(read_metadata(picture))
    if changed:
        reporter.note(f"note: made with other versions, so the repeat may differ a little: {', '.join(changed)}")
