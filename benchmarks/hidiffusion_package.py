"""Whether the method hidiffusion makes what the authors' package makes: `python -m benchmarks.hidiffusion_package`.

Install the package beside, not into the environment: `pip install --target FOLDER --no-deps hidiffusion==0.1.10`, and
name FOLDER.  Both run in the same tiny pipelines with random weights, at twice the native side (where the package
tells sizes apart by absolute numbers, so the native side is the real one).  The package draws its shifts from torch's
global generator; here it is given ours.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import types
from typing import Any

import torch

from scalecrafter.patching.coarse_features import Coarse, coarse_features
from scalecrafter.patching.sparse_attention import Sparse, finest_attention, sparse_attention
from tests.support.tiny_models import tiny_sd_pipeline, tiny_sdxl_pipeline

STEPS = {"sd": 5, "sdxl": 7}
"""Few, and such that the package's whole numbers of steps are clear: int(0.4 · 5), int(8 / 50 · 7), int(0.4 · 7)."""
PLACES = {"sd": [Coarse("sampler", 0, 0.4)], "sdxl": [Coarse("sampler", 1, 0.14), Coarse("pair", 1, 0.28, 0.14)]}
SEED = 5


def made(kind: str) -> Any:
    """A pipeline, the same each time."""
    return tiny_sd_pipeline(sample_size=64) if kind == "sd" else tiny_sdxl_pipeline(sample_size=128)


def latents(pipe: Any, kind: str) -> torch.Tensor:
    """Of a picture of twice the native side."""
    side = 2 * 8 * pipe.unet.config.sample_size
    found: torch.Tensor = pipe(
        "a fox", height=side, width=side, num_inference_steps=STEPS[kind], output_type="latent",
        generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip
    return found


def ours(kind: str) -> torch.Tensor:
    """By this project's pieces."""
    pipe = made(kind)
    windows = {finest_attention(pipe.unet): Sparse("windows", shifts=True)}
    with sparse_attention(pipe, windows, seed=SEED), coarse_features(pipe, PLACES[kind]):
        return latents(pipe, kind)


def theirs(kind: str, package: Any) -> torch.Tensor:
    """By the package."""
    pipe, generator, rand = made(kind), torch.Generator().manual_seed(SEED), torch.rand
    pipe.register_to_config(_name_or_path="tiny")
    package.sd15_module_key = [] if kind == "sd" else ["of no model"]  # it knows models by their modules
    package.sdxl_module_key = []
    package.apply_hidiffusion(pipe)

    def drawn(*size: Any, **more: Any) -> torch.Tensor:
        if size != (1,) or more:
            return rand(*size, **more)
        return torch.tensor([0.2 + 0.25 * int(torch.randint(4, (), generator=generator))])

    torch.rand = drawn
    try:
        return latents(pipe, kind)
    finally:
        torch.rand = rand


def main() -> None:
    """Print how far apart the two are, relatively."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="where the package was installed")
    sys.path.insert(0, parser.parse_args().folder)
    from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

    moved = types.ModuleType("diffusers.pipelines.controlnet.multicontrolnet")  # where the package looks for it
    moved.MultiControlNetModel = MultiControlNetModel  # type: ignore[attr-defined]
    sys.modules[moved.__name__] = moved
    package = importlib.import_module("hidiffusion.hidiffusion")
    for kind in STEPS:
        mine, other = ours(kind), theirs(kind, package)
        print(f"{kind}: relative difference {float((mine - other).norm() / other.norm()):.1e}")


if __name__ == "__main__":
    main()
