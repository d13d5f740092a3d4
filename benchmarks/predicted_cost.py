"""Seconds that `scalecrafter plan` predicts, and those that the pictures take: one is known, the others follow from it.

    python -m benchmarks.predicted_cost

The machine should be idle.  The first row is predicted from operations and the machine's ceiling.
"""

from __future__ import annotations

import argparse
import os
import tempfile

from scalecrafter.cost.estimate import Estimator
from scalecrafter.generation.generate import generate
from scalecrafter.generation.timings import CACHE
from scalecrafter.models.loading import load_pipeline
from scalecrafter.request.request import Request

KNOWN = ("scalecrafter", 512)
OTHERS = (
    *(("direct", 512), ("cascade", 512), ("fast", 512), ("direct", 1024), ("scalecrafter", 1024)),
    *(("cascade", 1024), ("fast", 1024)),
)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    steps = parser.parse_args().steps
    pipe, estimator = load_pipeline(device="cpu"), Estimator()
    print("| method | size | predicted, s | took, s | ratio | from |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as known, tempfile.TemporaryDirectory() as others:
        for number, (method, side) in enumerate((KNOWN, *OTHERS)):
            request = Request(
                prompt="a red fox", method=method, width=side, height=side, steps=steps, seed=1, device="cpu"
            )
            os.environ[CACHE] = known
            cost = estimator.cost(request)
            os.environ[CACHE] = others if number else known
            took = generate(pipe, request).seconds
            predicted, source = cost.seconds or 0.0, "measured" if cost.is_measured else "operations"
            print(
                f"| {method} | {side}² | {predicted:.1f} | {took:.1f} | {predicted / took:.2f} | {source} |", flush=True
            )


if __name__ == "__main__":
    main()
