"""One prompt and one seed by several methods, side by side."""

from __future__ import annotations

import argparse

from PIL import Image

import scalecrafter

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--size", type=int, default=512)
parser.add_argument("--steps", type=int, default=25)
parser.add_argument("--methods", nargs="+", default=["direct", "scalecrafter", "cascade"])
parser.add_argument("-o", "--output", default="methods.png")
options = parser.parse_args()

pipe = scalecrafter.load_pipeline("critters")
sheet = Image.new("RGB", (options.size * len(options.methods), options.size))
for column, method in enumerate(options.methods):
    request = scalecrafter.Request(
        prompt="a yellow dog with a purple bow tie in the mountains",
        width=options.size,
        height=options.size,
        steps=options.steps,
        seed=1,
        method=method,
    )
    result = scalecrafter.generate(pipe, request)
    sheet.paste(result.image, (column * options.size, 0))
    print(f"{method}: {result.seconds:.1f} s")

sheet.save(options.output)
print(options.output)
