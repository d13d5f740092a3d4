"""Contact sheets: the first pictures of a cell on one page, the same prompts in the same places on every sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .._util.files import write_whole
from .rows import PictureRow

PICTURES = 32
COLUMNS = 8
SIDE = 256
"""Pixels of the shorter side of a picture on a sheet."""
GAP = 4
STRIP = 36


def write_sheet(folder: Path, rows: Sequence[PictureRow], path: Path) -> Path:
    """Write the sheet of a cell as PNG.

    Args:
        folder: of the run, which `PictureRow.file` is relative to.
        rows: of one cell. Picture i is in field i; the field of a missing one is empty.
        path: of the sheet.
    """
    shown = {row.index: row for row in rows if row.index < PICTURES}
    width, height = rows[0].width, rows[0].height
    scale = SIDE / min(width, height)
    cell = round(width * scale), round(height * scale)
    lines = -(-(max(shown, default=0) + 1) // COLUMNS)
    columns = min(COLUMNS, max(shown, default=0) + 1)
    sheet = Image.new("RGB", (columns * (cell[0] + GAP) - GAP, STRIP + lines * (cell[1] + GAP) - GAP), "white")
    title = f"{rows[0].method}, {width}x{height}, pictures 0 to {max(shown, default=0)}"
    ImageDraw.Draw(sheet).text((GAP, STRIP / 2), title, fill="black", font=ImageFont.load_default(18), anchor="lm")
    for index, row in shown.items():
        with Image.open(folder / row.file) as picture:
            small = picture.convert("RGB").resize(cell, Image.Resampling.LANCZOS)
        sheet.paste(small, (index % COLUMNS * (cell[0] + GAP), STRIP + index // COLUMNS * (cell[1] + GAP)))
    return write_whole(path, lambda file: sheet.save(file, format="PNG", optimize=True))
