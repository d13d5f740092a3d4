"""`scalecrafter enlarge`: a picture of one's own, larger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..generation.checks import check_request
from ..request.methods import ENLARGING_METHOD, METHODS
from ..request.request import Request
from .app import Command, app
from .generate import check_vae_memory_option, maker, notices
from .options import AUTOMATIC, PictureOptions, VaeMemory, spread_options
from .output import Reporter, check_output, picture_path

_ABLE = ", ".join(name for name, method in METHODS.items() if method.can_enlarge)


@app.command("enlarge", cls=Command)
@spread_options("image", "strength", "mask", "control", "freeu", "ablation", "method")
def enlarge(
    options: PictureOptions,
    picture: Annotated[Path, typer.Argument(help="PNG, JPEG, WebP, AVIF, TIFF, BMP, GIF or HEIC.", show_default=False)],
    scale: Annotated[float, typer.Option("--scale", help="Of both sides: above 1, at most 8; or give --size.")] = 2.0,
    creativity: Annotated[
        float, typer.Option("--creativity", help="How much is drawn anew: 0 keeps to the picture, 1 is a new one.")
    ] = 0.3,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What the picture shows, if that is to guide.")] = "",
    method: Annotated[str, typer.Option("--method", help=f"{_ABLE}.")] = ENLARGING_METHOD,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="PNG file or folder; no file is replaced. \\[default: named by the picture, here]"
        ),
    ] = None,
    vae_memory: VaeMemory = AUTOMATIC,
    fit: Annotated[
        bool, typer.Option("--fit", help="Find settings that fit in memory by trying, and tell which did.")
    ] = False,
) -> None:
    """Enlarge a picture of any size and shape; nothing is cropped, and its colours are kept."""
    options = replace(options, method=method)
    values = options.values() | {"image": str(picture), "prompt": prompt}
    request = Request.from_mapping(values | {"enlarge": {"scale": scale, "creativity": creativity}})
    check_output(output)
    check_vae_memory_option(vae_memory)
    check_request(request, options.config)

    from ..generation.picture_files import save_picture

    with Reporter() as reporter, notices(reporter):
        pipe = reporter.load(request, **options.loading)
        result = reporter.picture(pipe, request, picture.name, maker(reporter, vae_memory, fit))
        made = result.request
        name = Path(f"{picture.stem}-{made.width}x{made.height}.png")
        print(save_picture(result, name if output is None else picture_path(output, result), replace=False))
