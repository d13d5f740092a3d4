"""A picture of twice the side that the model was trained for, through the pipeline's own call."""

from __future__ import annotations

import argparse

import torch

import scalecrafter

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--size", type=int, default=512)
parser.add_argument("--steps", type=int, default=25)
parser.add_argument("-o", "--output", default="first.png")
options = parser.parse_args()

pipe = scalecrafter.load_pipeline("critters")  # an ordinary diffusers pipeline, trained at 256×256

scalecrafter.apply(pipe)  # chooses a recipe for the size of each call
image = pipe(
    "a blue fox with a red scarf in the snow",
    height=options.size,
    width=options.size,
    num_inference_steps=options.steps,
    guidance_scale=2,
    generator=torch.Generator().manual_seed(1),
).images[0]
scalecrafter.remove(pipe)  # the pipeline is as it was

image.save(options.output)
print(options.output)
