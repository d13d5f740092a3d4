"""`scalecrafter compare`: direct inference beside ScaleCrafter or another method, same seed, in one picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..generation.checks import check_request
from ..request.request import Request, RequestError
from .app import Command, app
from .options import PictureOptions, spread_options
from .output import Reporter, check_output, picture_path

if TYPE_CHECKING:
    from PIL import Image


@app.command("compare", cls=Command)
@spread_options()
def compare(
    options: PictureOptions,
    prompt: Annotated[str, typer.Argument(help="What the pictures show.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="PNG file or folder; no file is replaced. \\[default: named by prompt and seed, here]",
        ),
    ] = None,
) -> None:
    """Show direct inference beside a method, by default ScaleCrafter, in one picture, which carries its request."""
    request = options.request(prompt)
    if request.method == "direct":
        raise RequestError(
            "compare shows direct inference beside a method: name another method than direct, "
            "or another recipe than none"
        )
    check_output(output)
    check_request(request, options.config)

    from ..generation.picture_files import save_picture

    with Reporter() as reporter:
        pipe = reporter.load(request, **options.loading)
        ours = reporter.picture(pipe, request, _caption(request))
        direct = reporter.picture(pipe, ours.request.directly(), "direct inference")
        if ours.image.tobytes() == direct.image.tobytes():
            reporter.note("note: both halves are the same, because at its native size a model runs unchanged")
        pair = side_by_side([("direct inference", direct.image), (_caption(ours.request), ours.image)])
        result = replace(ours, image=pair)
        print(save_picture(result, picture_path(output, result, suffix="-compare"), replace=False))


def side_by_side(pictures: list[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures of one size side by side, each with a caption above it."""
    from PIL import Image, ImageDraw, ImageFont

    width, height = pictures[0][1].size
    letter = max(height // 28, 11)
    gap, strip = max(height // 64, 2), 2 * letter
    sheet = Image.new("RGB", (len(pictures) * width + (len(pictures) - 1) * gap, height + strip), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(letter)
    for place, (caption, picture) in enumerate(pictures):
        left = place * (width + gap)
        draw.text((left + width / 2, strip / 2), caption, fill="black", font=font, anchor="mm")
        sheet.paste(picture, (left, strip))
    return sheet


def _caption(request: Request) -> str:
    name = "ScaleCrafter" if request.method_label == "scalecrafter" else request.method_label
    if request.recipe is None:
        return name
    return f"{name}, own recipe" if "\n" in request.recipe else f"{name}, {request.recipe}"
