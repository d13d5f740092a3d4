"""A plan as a picture: which layers (down the page), by which factor (colour and number), at which steps (across).

SVG text, drawn here rather than by a plotting package: a few bars with numbers in them need none, and it stays sharp
at any zoom.  Layers of a block that do the same at every step share a bar.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from itertools import groupby
from math import log2
from typing import TYPE_CHECKING

from .._util.sizes import Factors, ImageSize

if TYPE_CHECKING:
    from .plan import Plan
    from .transformer_plan import TransformerPlan

_LABELS, _BARS, _ROW, _GAP, _TOP = 190, 520, 22, 3, 64
"""Pixels: width of the labels and of the bars; height of a row, between rows, and above the first panel."""
_WIDTH = _LABELS + _BARS + 20
_PLAIN = (236, 239, 243)
_RAMP = ((253, 231, 170), (240, 146, 72), (178, 54, 88), (74, 24, 106))
"""From a small factor to the plan's largest one."""
_CHARACTER = 6.6
"""About how wide a character of a number is."""
_BLOCKS = {"down_blocks": "down", "up_blocks": "up", "mid_block": "middle", "conv_in": "first", "conv_out": "last"}
_PASS = ("conv_in", "down_blocks", "mid_block", "up_blocks", "conv_out")


@dataclass(frozen=True)
class _Cell:
    """What a layer does at one step."""

    factors: Factors = (1.0, 1.0)
    kernel: int | None = None
    """Side of the dispersed kernel."""

    @property
    def factor(self) -> str:
        """One number, or vertical×horizontal."""
        vertical, horizontal = self.factors
        return f"{vertical:g}" if vertical == horizontal else f"{vertical:g}×{horizontal:g}"

    @property
    def texts(self) -> tuple[str, ...]:
        """What may stand in its bar, the longest first: the first that has room does."""
        if self == _Cell():
            return ()
        if self.kernel is None:
            return (self.factor,)
        kernel = f"{self.kernel}×{self.kernel} kernel"
        return (kernel,) if self.factor == "1" else (f"{kernel}, {self.factor}", self.factor)


_Row = tuple[str, tuple[_Cell, ...]]
_Panel = tuple[str, list[_Row]]


def plan_picture(plan: Plan | TransformerPlan) -> str:
    """The picture as an SVG document; 730 pixels wide, as high as the plan needs."""
    from .transformer_plan import TransformerPlan

    if isinstance(plan, TransformerPlan):
        return _drawn(*_titles(plan, plan.architecture.native_size), _of_transformer(plan), plan)
    steps = range(plan.steps)
    structure: list[dict[str, Factors] | None] = [plan.factors(step) for step in steps]
    strong = [plan.damping_factors(step) for step in steps]
    panels = [("Dilation factor of each layer's convolutions", _rows(plan, _cells(plan, structure)))]
    damped = sum(factors is not None for factors in strong)
    if damped:
        name = "The same in the strong denoiser of noise damping"
        if damped < plan.steps:
            name += f" (steps 1–{damped})"
        panels.append((name, _rows(plan, _cells(plan, strong))))
    return _drawn(*_titles(plan, plan.architecture.native_size), panels, plan)


def _titles(plan: Plan | TransformerPlan, native: ImageSize) -> tuple[str, str]:
    title = f"{plan.width}×{plan.height} pixels in {plan.steps} steps"
    return title, f"family {plan.architecture.family}, trained at {native.width}×{native.height}"


def _of_transformer(plan: TransformerPlan) -> list[_Panel]:
    """Positions and attention over the steps, and convolutions where they are dilated."""
    steps = range(plan.steps)
    scales = [plan.scales(step) for step in steps]
    rows: list[_Row] = [
        (f"positions, {name}", tuple(_Cell((round(scale[axis], 3),) * 2) for scale in scales))
        for axis, name in enumerate(("vertical", "horizontal"))
    ]
    rows.append(("attention", tuple(_Cell((round(plan.temperature(step), 3),) * 2) for step in steps)))
    panels = [("How much positions are scaled, and attention sharpened", rows)]
    factors = [plan.factors(step) for step in steps]
    layers = sorted({name for each in factors for name in each})
    if layers:
        cells = [(name, tuple(_Cell(each.get(name, (1.0, 1.0))) for each in factors)) for name in layers]
        panels.append(("Dilation factor of each layer's convolutions", _grouped(cells)))
    return panels


def _grouped(lines: list[_Row]) -> list[_Row]:
    """Those next to each other that do the same are one row."""
    rows = []
    for cells, group in groupby(lines, key=lambda line: line[1]):
        names = [name for name, _ in group]
        rows.append((names[0] if len(names) == 1 else f"{len(names)} layers", cells))
    return rows


def _drawn(title: str, subtitle: str, panels: list[_Panel], plan: Plan | TransformerPlan) -> str:
    largest = max(max(cell.factors) for _, rows in panels for _, cells in rows for cell in cells)
    parts: list[str] = []
    top = _TOP
    for name, rows in panels:
        parts.append(_text(8, top, name, weight="600"))
        top += 12
        for label, cells in rows:
            parts.append(_text(_LABELS - 8, top + 15, label, anchor="end"))
            parts += _bars(cells, top, largest, plan.steps)
            top += _ROW + _GAP
        parts += _axis(plan.steps, top)
        top += 58
    if plan.resolved is None:
        text = "Nothing changes at this size: the model runs as it was trained."
        parts.append(_text(8, top, text, weight="600"))
        top += 24
    hatched = any(cell.kernel for _, rows in panels for _, cells in rows for cell in cells)
    legend = "grey: as trained" + ("; hatched: with the larger, dispersed kernel" if hatched else "")
    parts.append(_text(_WIDTH - 20, 24, legend, anchor="end", colour="#5b6472"))
    parts += [_text(8, 24, title, size=16, weight="600"), _text(8, 42, subtitle, colour="#5b6472")]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="12">\n<title>{escape(f"Plan of {title}")}</title>\n'
        '<defs><pattern id="dispersed" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="2" height="6" fill="#2a6f97" opacity="0.35"/></pattern></defs>\n'
        f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _cells(plan: Plan, factors: list[dict[str, Factors] | None]) -> Callable[[int, str], _Cell]:
    """What each layer does at each step, of the denoiser that has these factors at the steps where it acts."""
    dispersed = [frozenset(plan.dispersed(step)) for step in range(plan.steps)]
    dispersion = plan.recipe.dispersion if plan.recipe else None
    side = dispersion.kernel_size if dispersion else None

    def cell(step: int, name: str) -> _Cell:
        here = factors[step]
        if here is None:
            return _Cell()
        return _Cell(here.get(name, (1.0, 1.0)), side if name in dispersed[step] else None)

    return cell


def _rows(plan: Plan, cell: Callable[[int, str], _Cell]) -> list[_Row]:
    """The layers in the order of the U-Net; those next to each other in a block that do the same are one row."""
    convolutions = plan.architecture.convolutions
    lines = [
        (name, tuple(cell(step, name) for step in range(plan.steps)))
        for name in sorted(convolutions, key=_depth)
        if convolutions[name][0].kernel_size != (1, 1)
    ]
    rows = []
    for (block, cells), group in groupby(lines, key=lambda line: (_block(line[0]), line[1])):
        names = [name for name, _ in group]
        rows.append((_label(block, names), cells))
    return rows


def _depth(name: str) -> int:
    """Where a layer's block comes in a pass; the module tree has the middle block last."""
    first = name.partition(".")[0]
    return _PASS.index(first) if first in _PASS else 0


def _block(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first in ("down_blocks", "up_blocks") else first


def _label(block: str, names: list[str]) -> str:
    first, _, number = block.partition(".")
    label = f"{_BLOCKS.get(first, first)} {number}".strip()
    if len(names) > 1:
        return f"{label}: {len(names)} layers"
    rest = names[0].removeprefix(block).strip(".")
    for long, short in (("resnets.", "resnet "), ("samplers.0.conv", "sampler"), (".conv", " conv ")):
        rest = rest.replace(long, short)
    return f"{label}: {rest}" if rest else f"{label} layer"


def _bars(cells: tuple[_Cell, ...], top: int, largest: float, steps: int) -> list[str]:
    parts = []
    start = 0
    for cell, group in groupby(cells):
        length = len(list(group))
        left, width = _LABELS + _BARS * start / steps, _BARS * length / steps
        colour = _colour(max(cell.factors), largest)
        tooltip = f"steps {start + 1}–{start + length}: {cell.texts[0] if cell.texts else 'as trained'}"
        box = f'x="{left:.1f}" y="{top}" width="{max(width - 1, 1):.1f}" height="{_ROW}" rx="3"'
        parts.append(f'<g><title>{escape(tooltip)}</title><rect {box} fill="rgb{colour}"/>')
        if cell.kernel:
            parts.append(f'<rect {box} fill="url(#dispersed)"/>')
        labels = [text for text in cell.texts if len(text) * _CHARACTER <= width - 2]
        if labels:
            ink = "#ffffff" if sum(colour) < 420 else "#1d232d"
            parts.append(_text(left + width / 2, top + 15, labels[0], anchor="middle", colour=ink))
        parts.append("</g>")
        start += length
    return parts


def _axis(steps: int, top: int) -> list[str]:
    """Step numbers from 1 below a panel, at most about ten of them."""
    every = next(every for every in (1, 2, 5, 10, 20, 50, 100, 200, 500, steps) if steps <= 10 * every)
    numbers = sorted({1, *range(every, steps + 1, every)})
    marks = [
        _text(_LABELS + _BARS * (number - 0.5) / steps, top + 13, str(number), anchor="middle", colour="#5b6472")
        for number in numbers
    ]
    return [*marks, _text(_LABELS + _BARS / 2, top + 30, "step, from noise to picture", "middle", colour="#5b6472")]


def _colour(factor: float, largest: float) -> tuple[int, ...]:
    if factor <= 1.0:
        return _PLAIN
    place = (log2(factor) / log2(largest)) * (len(_RAMP) - 1)
    index = min(int(place), len(_RAMP) - 2)
    return tuple(round(a + (b - a) * (place - index)) for a, b in zip(_RAMP[index], _RAMP[index + 1], strict=True))


def _text(
    x: float, y: float, text: str, anchor: str = "start", size: int = 12, weight: str = "400", colour: str = "#1d232d"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{colour}">'
        f"{escape(text)}</text>"
    )
