"""The figures of an evaluation as plots. Needs Matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._util.files import write_whole
from .figures import JUDGES, KINDS, CellFigures, Kind
from .rows import PictureRow
from .settings import NATIVE, REAL, Size
from .spectrum import BINS, TOP_OCTAVE
from .tables import DISTANCES

SHEETS_OF_BARS = {
    "rates": ("one_object", "well_formed", "animals"),
    "attributes": ("species", "colour", "accessory"),
    **{f"distances-{judge}": keys for judge, keys in zip(JUDGES, DISTANCES, strict=True)},
    "texture-and-cost": ("sharpness", "spectrum", "seconds", "peak_memory"),
}
_KIND = {kind.key: kind for kind in KINDS}


def write_plots(
    folder: Path, measured: Sequence[CellFigures], rows: Mapping[tuple[Size, str], Sequence[PictureRow]]
) -> list[Path]:
    """Write the plots as PNG: bars with intervals for every figure, and the spectra of each size.

    Args:
        folder: where to.
        measured: every cell.
        rows: of every cell and of the real pictures, by size and method.
    """
    written = []
    colours = _colours(list(dict.fromkeys(cell.method for cell in measured)))
    for name, keys in SHEETS_OF_BARS.items():
        shown = [_KIND[key] for key in keys if any(key in cell.figures for cell in measured)]
        if shown:
            written.append(_save(_bars(measured, shown, colours), folder / f"{name}.png"))
    for size in dict.fromkeys(size for size, _ in rows):
        spectra = {method: rows[size, method] for method in colours if (size, method) in rows}
        written.append(_save(_spectra(size, spectra, colours), folder / f"spectrum-{size[0]}x{size[1]}.png"))
    return written


def _bars(measured: Sequence[CellFigures], kinds: Sequence[Kind], colours: Mapping[str, Any]) -> Any:
    """A panel a figure; groups of bars by size, a bar a method."""
    sizes = list(dict.fromkeys(cell.size for cell in measured))
    figure = _figure(width=3 + 0.22 * len(measured), height=2.6 * len(kinds) + 0.6)
    for panel, kind in enumerate(kinds):
        axes = figure.add_subplot(len(kinds), 1, panel + 1)
        ticks = []
        position = 0.0
        for size in sizes:
            cells = [cell for cell in measured if cell.size == size and kind.key in cell.figures]
            if not cells:
                continue
            ticks.append((position + (len(cells) - 1) / 2, f"{size[0]}×{size[1]}"))
            for cell in cells:
                found = cell.figures[kind.key]
                scale = 100 if kind.percent else 1000 if kind.thousandfold else 1
                error = [[scale * (found.value - found.low)], [scale * (found.high - found.value)]]
                axes.bar(position, scale * found.value, 0.9, color=colours[cell.method], label=cell.method)
                axes.errorbar(position, scale * found.value, np.maximum(error, 0), color="black", capsize=2, lw=0.8)
                position += 1
            position += 1
        axes.set_xticks([middle for middle, _ in ticks], [name for _, name in ticks])
        axes.set_ylabel(f"{kind.heading} (%)" if kind.percent else f"{kind.heading}{kind.unit}")
    named: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named.keys(), loc="outside right upper", fontsize=7)
    return figure


def _spectra(size: Size, cells: Mapping[str, Sequence[PictureRow]], colours: Mapping[str, Any]) -> Any:
    """The mean spectrum of every method at one size, real pictures in black."""
    figure = _figure(width=7, height=4.5)
    axes = figure.add_subplot()
    frequencies = (np.arange(BINS) + 0.5) / (2 * BINS)
    for method, rows in cells.items():
        power = np.exp(np.mean([np.log(np.maximum(row.metrics.spectrum, 1e-12)) for row in rows], axis=0))
        axes.loglog(frequencies, power, color=colours[method], label=method, lw=2 if method == REAL else 1)
    axes.axvspan(TOP_OCTAVE, 0.5, color="0.93", zorder=0)
    axes.set_xlabel("cycles a pixel (the top octave is shaded)")
    axes.set_ylabel("power of luminance")
    axes.set_title(f"{size[0]}×{size[1]}", fontsize=10)
    axes.legend(fontsize=7)
    return figure


def _colours(methods: Sequence[str]) -> dict[str, Any]:
    """A colour a method, in their order: real pictures black, native ones gray, the rest around the wheel."""
    from matplotlib import colormaps

    others = [method for method in methods if method not in (NATIVE, REAL)]
    wheel = colormaps["tab20"](np.arange(20))
    around = {method: wheel[index * 2 % 20 + index // 10 % 2] for index, method in enumerate(others)}
    around |= {NATIVE: "0.6", REAL: "black"}
    return {method: around[method] for method in methods}


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(min(width, 24), height), layout="constrained")


def _save(figure: Any, path: Path) -> Path:
    return write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110))
