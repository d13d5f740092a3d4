"""`scalecrafter disperse`: the transform R that disperses kernels, solved, saved and drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from .._util.extras import need_extra
from .._util.files import check_writable, write_whole
from ..request.request import RequestError
from .app import Command, app

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray
    from rich.text import Text


@app.command("disperse", cls=Command)
def disperse(
    kernel_size: Annotated[int, typer.Option(help="Side of the kernel before.")] = 3,
    dispersed_size: Annotated[int, typer.Option(help="Side of the kernel after.")] = 5,
    scale: Annotated[int, typer.Option(help="How many times farther the dispersed kernel reaches.")] = 2,
    eta: Annotated[float, typer.Option(help="Weight of the pixel-level calibration.")] = 0.05,
    feature_size: Annotated[int, typer.Option(help="Side of the feature maps for which R is solved.")] = 3,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write R to this .npz or .mat file.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw R as a heat map in this PNG file.")] = None,
) -> None:
    """Solve R, the transform that disperses kernels, and draw it.

    A row of R is a tap of the dispersed kernel, a column a tap of the given one.
    """
    settings = {
        "kernel_size": kernel_size, "dispersed_size": dispersed_size, "scale": scale,
        "eta": eta, "feature_size": feature_size,
    }  # fmt: skip
    if output is not None and output.suffix not in (".npz", ".mat"):
        raise RequestError(f"R is written as .npz or .mat, not {output.suffix or 'without an ending'}")
    if plot is not None and plot.suffix.lower() != ".png":
        raise RequestError(f"the heat map is written as PNG: let {str(plot)!r} end in .png")
    for path in (output, plot):
        if path is not None:
            check_writable(path.parent)
    as_mat = output is not None and output.suffix == ".mat"
    if as_mat:
        need_extra("writing .mat files", "mat", instead="write .npz, which needs nothing")
    if plot is not None:
        need_extra("drawing a PNG", "plot")

    from rich.console import Console

    from ..ops.dispersion import dispersion_transform

    try:
        transform = dispersion_transform(**settings)  # type: ignore[arg-type]
    except ValueError as error:
        raise RequestError(str(error)) from None
    quiet = output is not None or plot is not None
    Console(file=sys.stderr if quiet else sys.stdout, soft_wrap=True).print(heat_map(transform))
    if output is not None:
        content = {"R": transform, **settings}
        write_whole(output, lambda file: (_savemat if as_mat else _savez)(file, content), parents=False)
        print(output)
    if plot is not None:
        write_whole(plot, lambda file: _plot(transform, settings, file))
        print(plot)


def heat_map(transform: NDArray[float64]) -> Text:
    """R as coloured cells with its values: red above zero, blue below."""
    from rich.text import Text

    largest = abs(transform).max() or 1.0
    drawn = Text(f"R: {transform.shape[0]}×{transform.shape[1]}, largest {largest:.4f}\n")
    for row in transform:
        for value in row:
            pale = 255 - round(215 * min(abs(value) / largest, 1.0) ** 0.5)
            background = f"rgb(255,{pale},{pale})" if value >= 0 else f"rgb({pale},{pale},255)"
            drawn.append(f"{round(value, 3) + 0.0:7.3f} ", style=f"black on {background}")
        drawn.append("\n")
    drawn.rstrip()
    return drawn


def _savemat(file: BinaryIO, content: dict[str, Any]) -> None:
    from scipy.io import savemat

    savemat(file, content)


def _savez(file: BinaryIO, content: dict[str, Any]) -> None:
    import numpy as np

    np.savez(file, **content)


def _plot(transform: NDArray[float64], settings: dict[str, Any], file: BinaryIO) -> None:
    from matplotlib.figure import Figure

    largest = abs(transform).max()
    figure = Figure(figsize=(6, 10), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(transform, cmap="RdBu_r", vmin=-largest, vmax=largest)
    axes.set_xlabel("tap of the given kernel")
    axes.set_ylabel("tap of the dispersed kernel")
    axes.set_title(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items()), fontsize=8)
    figure.colorbar(drawn)
    figure.savefig(file, format="png", dpi=120)
