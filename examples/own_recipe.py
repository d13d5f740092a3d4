"""A recipe written in Python: which layers are dilated, by how much, and for how long."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

import scalecrafter

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--size", type=int, default=512)
parser.add_argument("--steps", type=int, default=25)
parser.add_argument("-o", "--output", default="own.png")
options = parser.parse_args()

TOML = """
architecture = "any"

[redilation]
until = 0.8                                          # the first 80 % of the steps
layers = { "down_blocks.2" = 2, "down_blocks.3" = 2, "mid_block" = 2, "up_blocks.0" = 2, "up_blocks.1" = [2, 1.5] }
"""

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "own.toml")
    path.write_text(TOML)
    recipe = scalecrafter.Recipe.load(path)

pipe = scalecrafter.load_pipeline("critters")
plan = scalecrafter.plan(
    pipe, height=options.size, width=options.size, num_inference_steps=options.steps, recipe=recipe
)
print(plan)  # a table: steps, layers, factors
print(f"{len(plan.factors(0))} layers are dilated at the first step")

with scalecrafter.applied(pipe, recipe=recipe):  # taken off again at the end of the block
    image = pipe(
        "a green frog in a meadow",
        height=options.size,
        width=options.size,
        num_inference_steps=options.steps,
        guidance_scale=2,
        generator=torch.Generator().manual_seed(7),
    ).images[0]

image.save(options.output)
print(options.output)
