"""The rows of a bench: what each picture costs, beside direct inference and the published schedule."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .._util.sizes import ImageSize
from .._version import __version__
from ..cost.architectures import BenchModel
from ..cost.flops import FlopCounts
from ..cost.passes import PUBLISHED, costed_methods
from ..cost.transformers import BenchTransformer, TransformerCounts
from ..errors import ScaleCrafterError
from ..models.denoisers import read_model
from ..request.methods import METHODS
from ..request.passes import Pass
from ..request.request import Request
from ..transformer.architecture import TransformerArchitecture
from ..unet.architecture import Architecture

STEPS = 50
"""Of the published settings."""
COUNTED = "counted"
"""The mode of a row that was only counted."""
Row = dict[str, Any]
Counts = FlopCounts | TransformerCounts


def requests(
    model: str, sizes: Iterable[ImageSize], methods: Iterable[str], steps: int, peers: Collection[str] = ()
) -> list[tuple[str, Request]]:
    """What is to be costed: the name of each method and its request, the sizes one after another.

    Raises:
        RequestError: for what cannot be requested.
    """
    found = []
    for size in sizes:
        for method in methods:
            values = {
                "prompt": "bench", "model": model, "width": size.width, "height": size.height, "steps": steps,
                "seed": 0, "method": "direct" if method in (PUBLISHED, *peers) else method,
            }  # fmt: skip
            found.append((method, Request.from_mapping(values, "bench")))
    return found


def passes_of(method: str, request: Request, architecture: Architecture | TransformerArchitecture) -> list[Pass]:
    """The passes of a request (`ScaleCrafterError` for a method that does not tell them)."""
    known, name = costed_methods(), PUBLISHED if method == PUBLISHED else request.method
    if name not in known:
        raise ScaleCrafterError(f"the method {method!r} does not tell its passes, so it cannot be costed")
    assert request.width is not None
    assert request.height is not None
    architecture.check_size(request.height, request.width)
    if isinstance(architecture, TransformerArchitecture) and name not in methods_on(architecture):
        raise ScaleCrafterError(f"the method {method!r} is not for a transformer: take one of those that are")
    return list(known[name](request, architecture))  # type: ignore[arg-type]


def methods_on(architecture: Architecture | TransformerArchitecture) -> list[str]:
    """The names of the methods that can be costed on a model of this architecture."""
    kind = "transformer" if isinstance(architecture, TransformerArchitecture) else "unet"
    names = [PUBLISHED] if kind == "unet" else []
    return [name for name in costed_methods() if name in names or (name in METHODS and kind in METHODS[name].models)]


def counts_of(model: BenchModel | BenchTransformer) -> Counts:
    """What counts the operations of a model on the meta device."""
    return TransformerCounts(model) if isinstance(model, BenchTransformer) else FlopCounts(model)


def counted_rows(model: BenchModel | BenchTransformer, asked: Sequence[tuple[str, Request]]) -> list[Row]:
    """A row a picture, with its operations; `model` is on the meta device."""
    counts = counts_of(model)
    architecture = read_model(model)
    rows = []
    for method, request in asked:
        flops = counts.picture(passes_of(method, request, architecture), request.steps)
        rows.append(
            {
                "architecture": model.name, "width": request.width, "height": request.height, "method": method,
                "mode": COUNTED, "steps": request.steps, "flops": flops,
            }
        )  # fmt: skip
    return compared(rows, "flops")


def compared(rows: list[Row], what: str) -> list[Row]:
    """The rows with two ratios more, where there is something to compare with at the same size: `what` over that of
    direct inference, and that of the published schedule over it."""
    for row in rows:
        beside = {other["method"]: other for other in rows if _place(other) == _place(row)}
        if what in row and what in beside.get("direct", {}):
            row[f"{what}_over_direct"] = row[what] / beside["direct"][what]
        if what in row and what in beside.get(PUBLISHED, {}):
            row[f"published_over_{what}"] = beside[PUBLISHED][what] / row[what]
    return rows


def default_sizes(model: BenchModel | BenchTransformer) -> list[ImageSize]:
    """The native size, twice and four times its sides."""
    width, height = read_model(model).native_size
    return [ImageSize(width * times, height * times) for times in (1, 2, 4)]


def versions() -> Mapping[str, str]:
    """Of this package and of what it stands on."""
    found = {"scalecrafter": __version__, "python": platform.python_version()}
    for package in ("torch", "diffusers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    timed = any("seconds" in row for row in rows)
    head = ["architecture", "size", "method", "steps", "TFLOP", "over direct", "published over it"]
    head += ["seconds", "over direct", "published over it", "peak, GiB", "TFLOP/s", "of ceiling"] if timed else []
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [row["architecture"], f"{row['width']}×{row['height']}", row["method"], str(row["steps"])]
        cells += [_cell(row, "flops", 1e-12, ".1f"), _cell(row, "flops_over_direct")]
        cells.append(_cell(row, "published_over_flops"))
        if timed:
            cells += [_cell(row, "seconds", 1, ".2f"), _cell(row, "seconds_over_direct")]
            cells += [_cell(row, "published_over_seconds"), _cell(row, "peak_gib", 1, ".2f")]
            cells += [_cell(row, "tflops_per_s", 1, ".2f"), _cell(row, "of_ceiling", 1, ".0%")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row, name: str, scale: float = 1.0, form: str = ".3f") -> str:
    return format(row[name] * scale, form) if name in row else "–"


def _place(row: Row) -> tuple[Any, ...]:
    return row["architecture"], row["width"], row["height"], row["steps"]
