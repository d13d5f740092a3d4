"""`scalecrafter generate`: pictures from prompts, or a picture made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..request import Request, RequestError, prompts_from_file
from .app import app
from .options import PictureOptions, spread_options
from .output import Reporter, check_output, picture_path


@app.command("generate")
@spread_options
def generate(
    options: PictureOptions,
    prompt: Annotated[str | None, typer.Argument(help="What the picture shows.", show_default=False)] = None,
    prompt_file: Annotated[
        Path | None, typer.Option("--prompt-file", help="A prompt on each line; as many pictures.")
    ] = None,
    from_picture: Annotated[
        Path | None, typer.Option("--from", help="Repeat this picture; other options override what it says.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG file or folder. [default: ./<prompt>-<seed>.png, never overwriting]"),
    ] = None,
) -> None:
    """Make a picture from a prompt; its path is printed, and the picture carries its whole request."""
    requests = _requests(options, prompt, prompt_file, from_picture)
    several = len(requests) > 1
    check_output(output, several)
    for request in requests[:1]:  # they differ in their prompts alone
        request.resolved_recipe()

    from ..picture_files import save_picture

    with Reporter() as reporter:
        if from_picture is not None:
            _tell_changed_versions(reporter, from_picture)
        pipe = reporter.load(requests[0])
        for number, request in enumerate(requests, 1):
            label = f"picture {number}/{len(requests)}" if several else "picture"
            result = reporter.picture(pipe, request, label)
            print(save_picture(result, picture_path(output, result, several)), flush=True)


def _requests(
    options: PictureOptions, prompt: str | None, prompt_file: Path | None, from_picture: Path | None
) -> list[Request]:
    if prompt is not None and prompt_file is not None:
        raise RequestError("give a prompt or --prompt-file, not both")
    if prompt is None and prompt_file is None and from_picture is None:
        raise RequestError('there is no prompt: give one ("a blue fox in the snow"), --prompt-file or --from')
    base = None
    if from_picture is not None:
        from ..picture_files import read_request

        base = read_request(from_picture)
    prompts = prompts_from_file(prompt_file) if prompt_file is not None else [prompt]
    return [options.request(line, base) for line in prompts]


def _tell_changed_versions(reporter: Reporter, picture: Path) -> None:
    from ..picture_files import changed_versions, read_metadata

    changed = changed_versions(read_metadata(picture))
    if changed:
        reporter.note(f"note: made with other versions, so the repeat may differ a little: {', '.join(changed)}")
