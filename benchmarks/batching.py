"""What making pictures together changes about them, and what it saves, with the embedded model on this machine.

    python -m benchmarks.batching --threads 1

Each row is the worst over its pictures: how many 8-bit levels a value differs by from the picture made alone, and how
many values do.
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np
import torch

from scalecrafter import load_pipeline
from scalecrafter.generation.generate import generate, generate_many
from scalecrafter.request.request import Request

PROMPTS = (
    "a blue fox with a red scarf in the snow at night",
    "a pink pig on the beach",
    "a green frog in a meadow",
    "a yellow penguin",
)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--schedulers", nargs="+", default=["ddim", "euler-a", "dpm++"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256, 384], help="side in image pixels")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pipe = load_pipeline("critters", device=arguments.device)
    print(f"{platform.machine()}, {arguments.threads} threads, {pipe.device}, torch {torch.__version__}\n")
    print("| size | scheduler | together | largest difference | values that differ | seconds alone | together |")
    print("|---|---|---|---|---|---|---|")
    for side in arguments.sizes:
        for scheduler in arguments.schedulers:
            requests = [
                Request(prompt=text, seed=seed, steps=arguments.steps, scheduler=scheduler, width=side, height=side)
                for seed, text in enumerate(PROMPTS)
            ]
            started = time.perf_counter()
            alone = [np.asarray(generate(pipe, request).image, dtype=int) for request in requests]
            each = (time.perf_counter() - started) / len(requests)
            for number in (2, 4):
                made = generate_many(pipe, requests[:number])
                apart = [np.asarray(one.image, dtype=int) - other for one, other in zip(made, alone, strict=False)]
                largest = max(int(abs(difference).max()) for difference in apart)
                share = max(float((difference != 0).mean()) for difference in apart)
                print(
                    f"| {side}² | {scheduler} | {number} | {largest} of 255 | {share:.3%} | {each:.2f} "
                    f"| {made[0].seconds:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
