"""The first pictures of an evaluation's cells side by side: what the methods make of the same prompts.

python -m benchmarks.methods_side_by_side runs/quality/pictures/512x512 direct scalecrafter cascade \
    -o docs/pictures/quality-methods.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from .pictures import sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of one size, with a folder for each method")
    parser.add_argument("methods", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=8, help="of prompts, two to a line")
    parser.add_argument("--shown", type=int, default=192, help="pixels of the shorter side")
    options = parser.parse_args()
    rows = [
        [Image.open(options.folder / method / f"{first + k:04d}.png") for k in range(2) for method in options.methods]
        for first in range(0, options.count, 2)
    ]
    sheet(rows, options.methods, options.shown).quantize(256).save(options.output, optimize=True)


if __name__ == "__main__":
    main()
