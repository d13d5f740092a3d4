"""The real U-Nets with random weights: one plain and one noise-damped step at ×4, with the memory that each takes.

    python -m benchmarks.full_size_step                     # SD 1.5 at 1024² in float32, SDXL at 2048² in bfloat16
    python -m benchmarks.full_size_step --models sd15

Each figure is of a process of its own: peak resident memory is the process's, the weights and torch itself included.
A step is one guided evaluation of the U-Net (batch of two); the damped one has the factors of the automatic recipe and
a strong denoiser with half of its blocks, and is timed in the same process as a plain one before it.  Times are in CPU
seconds, of all threads together: what other programs take of the machine meanwhile does not count.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

import scalecrafter
from scalecrafter import Recipe
from scalecrafter.recipes.recipe import NoiseDamping

from .step_cost import CONFIGS, DTYPES, inputs

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Model:
    """An architecture, and what is asked of it."""

    architecture: str
    side: int
    """Image pixels: twice the native side."""
    dtype: str


MODELS = {"sd15": Model("sd15", 1024, "fp32"), "sdxl": Model("sdxl", 2048, "bf16")}


def damped_recipe(unet: UNet2DConditionModel, side: int) -> Recipe:
    """The automatic recipe at this size, with noise damping from the first step."""
    recipe = scalecrafter.plan(unet, side, side).recipe
    assert recipe is not None
    assert recipe.redilation is not None
    layers = dict(list(recipe.redilation.layers.items())[::2])
    return recipe.model_copy(update={"noise_damping": NoiseDamping(until=recipe.redilation.until, layers=layers)})


def random_unet(model: Model) -> UNet2DConditionModel:
    """The published architecture, drawn in its own dtype so that no copy in another exists."""
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(DTYPES[model.dtype])
    try:
        return UNet2DConditionModel(**CONFIGS[model.architecture]).requires_grad_(False).eval()
    finally:
        torch.set_default_dtype(before)


def measure(model: Model, damped: bool) -> dict[str, float]:
    """CPU seconds of a plain step, of a damped one if asked for, and the peak of this process in bytes."""
    unet = random_unet(model)
    args, kwargs = inputs(unet, model.side // 8, CPU, DTYPES[model.dtype])
    found: dict[str, float] = {"weights": sum(p.numel() * p.element_size() for p in unet.parameters())}
    with torch.no_grad():
        found["plain"] = cpu_seconds(lambda: unet(*args, **kwargs))
        if damped:
            with scalecrafter.applied(unet, recipe=damped_recipe(unet, model.side), guided=True):
                outputs: list[Any] = []
                found["damped"] = cpu_seconds(lambda: outputs.append(unet(*args, **kwargs).sample))
            assert bool(torch.isfinite(outputs[0]).all())
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found


def cpu_seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def in_own_process(name: str, damped: bool) -> dict[str, float]:
    """`measure` in a fresh process, whose peak is its own."""
    command = [sys.executable, "-m", "benchmarks.full_size_step", "--one", name, *(["--damped"] if damped else [])]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1]).stdout
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


def row(name: str) -> str:
    model, plain, damped = MODELS[name], in_own_process(name, False), in_own_process(name, True)
    weights, peak, damped_peak = (f"{b / 2**30:.2f} GiB" for b in (plain["weights"], plain["peak"], damped["peak"]))
    cells = [name, f"{model.side}²", model.dtype, weights, f"{damped['plain']:.1f}", f"{damped['damped']:.1f}"]
    ratio = f"{damped['damped'] / damped['plain']:.2f}"
    return f"| {' | '.join([*cells, ratio, peak, damped_peak])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--one", choices=MODELS, help=argparse.SUPPRESS)
    parser.add_argument("--damped", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(MODELS[options.one], options.damped)))
        return
    machine = f"{torch.get_num_threads()} CPU threads, {platform.machine()}, torch {torch.__version__}"
    print(f"{time.strftime('%Y-%m-%d')}, {machine}\n")
    print("| model | size | dtype | weights | plain, CPU s | damped, CPU s | ratio | peak, plain | peak, damped |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.models:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
