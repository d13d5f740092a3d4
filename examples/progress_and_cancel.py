"""Progress, a small preview of every step, and stopping early."""

from __future__ import annotations

import argparse
from typing import Any

import torch

import scalecrafter
from scalecrafter.vae.previews import preview

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--size", type=int, default=512)
parser.add_argument("--steps", type=int, default=25)
parser.add_argument("--stop-after", type=int, default=10, help="steps; the rest is not made")
parser.add_argument("-o", "--output", default="preview.png")
options = parser.parse_args()

pipe = scalecrafter.load_pipeline("critters")
scalecrafter.apply(pipe)
seen: list[Any] = []


def tell(done: int, steps: int) -> None:
    print(f"step {done} of {steps}")
    if done == options.stop_after:
        callback.cancel()  # from here or from any other thread


def show(latents: torch.Tensor) -> None:
    seen.append(preview(pipe.vae, latents))  # small, and quick: no decoding


callback = scalecrafter.ProgressCallback(tell, show=show)
try:
    pipe(
        "a pink pig on the beach",
        height=options.size,
        width=options.size,
        num_inference_steps=options.steps,
        guidance_scale=2,
        callback_on_step_end=callback,
    )
except scalecrafter.Cancelled:
    print("stopped")

seen[-1].save(options.output)
print(options.output)
