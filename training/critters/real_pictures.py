"""Real pictures for `scalecrafter eval`: the scenes of its shipped prompts, drawn at any size.

    python -m training.critters.real_pictures --size 640x640 --output FOLDER      pictures for `eval --real FOLDER`
    python -m training.critters.real_pictures --ship                              the figures that the package carries

The second is to be run again whenever the world or the observer changes: its features are among the figures, beside
those of ImageNet.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from scalecrafter.evaluation.inspection import Inspector, make_inspector
from scalecrafter.evaluation.prompts import Prompt, critters_prompts
from scalecrafter.evaluation.real_pictures import SHIPPED, SIGNATURE, inspected
from scalecrafter.evaluation.rows import write_parquet
from scalecrafter.request.text import parse_size

from .renderer import render
from .scene import sample_scene

COUNT = 128
SIZES = ("256x256", "384x192", "192x384", "512x512", "640x640", "1024x512", "512x1024", "1024x1024")
"""Native in three shapes, and 4, 6.25, 8 (both ways) and 16 times its pixels."""
TARGET = Path("src/scalecrafter/evaluation/real") / SHIPPED.name


def real_pictures(size: str, count: int) -> Iterator[tuple[Prompt, Image.Image]]:
    """The scenes of the first `count` shipped prompts as pictures of a size, "WIDTHxHEIGHT"."""
    width, height = parse_size(size)
    for prompt in critters_prompts()[:count]:
        assert prompt.scene is not None, "the shipped prompts of critters name their scenes"
        yield prompt, Image.fromarray(render(sample_scene(prompt.scene), width, height))


def write_pictures(folder: Path, size: str, count: int) -> None:
    """Write `FOLDER/WIDTHxHEIGHT/0000.png` and so on."""
    target = folder / size
    target.mkdir(parents=True, exist_ok=True)
    for index, (_, picture) in enumerate(real_pictures(size, count)):
        picture.save(target / f"{index:04d}.png")
    print(f"drew {count} pictures in {target}")


def write_figures(target: Path, sizes: list[str], count: int, inspector: Inspector) -> None:
    """Write what an inspector finds in the real pictures of several sizes."""
    rows = []
    for size in sizes:
        for index, (prompt, picture) in enumerate(real_pictures(size, count)):
            rows.append(inspected(picture, index, f"scene {prompt.scene}", inspector, prompt))
        print(f"looked at {count} pictures of {size}")
    write_parquet(rows, target, {SIGNATURE: json.dumps(inspector.signature())})
    print(f"wrote {target}: {target.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Draw pictures, or look at them and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", action="append", help=f"WxH; repeatable (default: {' '.join(SIZES)})")
    parser.add_argument("--count", type=int, default=COUNT)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("-o", "--output", type=Path, help="write pictures into this folder")
    what.add_argument("--ship", action="store_true", help="write the figures into the package")
    options = parser.parse_args()
    sizes = options.size or list(SIZES)
    if options.ship:
        write_figures(TARGET, sizes, options.count, make_inspector("imagenet", observe=True))
    else:
        for size in sizes:
            write_pictures(options.output, size, options.count)


if __name__ == "__main__":
    main()
