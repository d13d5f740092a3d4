"""The first pictures of an evaluation's cells on one page, a row a cell: what the methods make of the same prompts.

python -m benchmarks.method_rows runs/quality -o docs/quality-methods.png \
    512x512/direct 512x512/scalecrafter 512x512/cascade
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

TITLE = 22


def page(cells: list[Path], count: int, side: int) -> Image.Image:
    """A row for each folder of pictures, reduced to `side` pixels, with its name above."""
    sheet = Image.new("RGB", (count * side, len(cells) * (side + TITLE)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for row, cell in enumerate(cells):
        top = row * (side + TITLE)
        draw.text((4, top + 3), f"{cell.name}, {cell.parent.name}", fill="black", font=font)
        for index in range(count):
            with Image.open(cell / f"{index:04d}.png") as picture:
                sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (index * side, top + TITLE))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_OR_CELL", help="folders of runs, then SIZE/METHOD …")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--side", type=int, default=192)
    options = parser.parse_args()
    runs = [path for path in options.runs if (path / "run.json").is_file()]
    cells = []
    for wanted in options.runs:
        if wanted in runs:
            continue
        found = [run / "pictures" / wanted for run in runs if (run / "pictures" / wanted).is_dir()]
        if not found:
            parser.error(f"no run has pictures of {wanted}")
        cells.append(found[0])
    page(cells, options.count, options.side).quantize(256).save(options.output, optimize=True)


if __name__ == "__main__":
    main()
