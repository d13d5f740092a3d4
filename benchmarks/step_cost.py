"""The cost of one U-Net evaluation and of one guided denoising step, mode against mode, side by side in one run.

    python -m benchmarks.step_cost                          # a half-width SD 1.5 U-Net at 1024², on a CPU in minutes
    python -m benchmarks.step_cost --architecture sd15      # the real one, random weights
    python -m benchmarks.step_cost --architecture sdxl --dtype fp16 --device cuda --size 2048   # on a GPU

Modes alternate within every round and the table gives the median of each mode's ratio to `plain` *of the same
round*, so that a machine that slows down in the middle slows both.  `reference` is the reference implementation
(tests/support/reference.py): four half-batches for a damped step, resizes always, kernels built anew.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

import scalecrafter
from scalecrafter import Recipe

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SD_BLOCKS: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "attention_head_dim": 8,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "sd15-half": {**SD_BLOCKS, "block_out_channels": (160, 320, 640, 640), "cross_attention_dim": 384},
    "sd15": {**SD_BLOCKS, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768},
    "sdxl": {
        "sample_size": 128,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 2,
        "block_out_channels": (320, 640, 1280),
        "cross_attention_dim": 2048,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


def recipes(levels: int) -> dict[str, str | None]:
    """TOML of each mode; plain has none."""
    layers = (
        [f"down_blocks.{k}" for k in range(1, levels)] + ["mid_block"] + [f"up_blocks.{k}" for k in range(levels - 1)]
    )

    finest = ["down_blocks.0", f"up_blocks.{levels - 1}"]

    def redilation(factor: float, more: Sequence[str] = ()) -> str:
        table = ", ".join(f'"{name}" = {factor}' for name in [*layers, *more])
        return f"[redilation]\nuntil = 1\nlayers = {{ {table} }}\n"

    deep = [f"down_blocks.{levels - 1}", "mid_block", "up_blocks.0"]
    return {
        "plain": None,
        "whole (2)": redilation(2),
        "whole (2), finest too": redilation(2, finest),
        "fractional (2.5)": redilation(2.5),
        "damped (2)": redilation(2) + '[noise_damping]\nuntil = 1\nlayers = { "mid_block" = 2 }\n',
        "dispersed (4)": redilation(4) + f"[dispersion]\nuntil = 1\nlayers = {json.dumps(deep)}\n",
    }


def inputs(
    unet: UNet2DConditionModel, side: int, device: torch.device, dtype: torch.dtype
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a guided pair."""
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, side, side, generator=generator).to(device, dtype)
    text = torch.randn(2, 77, unet.config.cross_attention_dim, generator=generator).to(device, dtype)
    extra = {}
    if unet.config.addition_embed_type == "text_time":
        embeds = torch.randn(2, 1280, generator=generator).to(device, dtype)
        extra["added_cond_kwargs"] = {"text_embeds": embeds, "time_ids": torch.ones(2, 6, device=device, dtype=dtype)}
    return (sample, torch.tensor(800, device=device), text), extra


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(options: argparse.Namespace) -> dict[str, Any]:
    device, dtype = torch.device(options.device), DTYPES[options.dtype]
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(**CONFIGS[options.architecture]).to(dtype).eval()
    args, kwargs = inputs(unet, options.size // 8, device, dtype)
    times: dict[str, list[float]] = {}

    def once(name: str, work: Callable[[], Any]) -> None:
        times.setdefault(name, []).append(seconds(work, device))

    modes = {name: text and Recipe.parse(text) for name, text in recipes(len(unet.down_blocks)).items()}
    with torch.no_grad():
        for round_ in range(options.rounds + 1):
            for name, recipe in modes.items():
                if recipe is None:
                    once(name, lambda: unet(*args, **kwargs))
                    continue
                with scalecrafter.applied(unet, recipe=recipe, guided=True):
                    if round_ == 0:  # the dispersed kernels are made once a run, not once a step
                        unet(*args, **kwargs)
                    if "dispersed" in name:
                        unet(*args, **kwargs)
                    once(name, lambda: unet(*args, **kwargs))
            if options.reference:
                once(
                    "reference, damped",
                    lambda: reference_step(unet, args, kwargs, recipes(len(unet.down_blocks))["damped (2)"]),
                )
            if round_ == 0:
                times.clear()  # warm-up
    ratios = {
        name: statistics.median(t / p for t, p in zip(values, times["plain"], strict=True))
        for name, values in times.items()
    }
    memory = (
        torch.cuda.max_memory_allocated()
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return {
        "architecture": options.architecture, "size": options.size, "dtype": options.dtype, "device": str(device),
        "machine": torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads",
        "torch": torch.__version__, "python": platform.python_version(), "rounds": options.rounds,
        "weights_bytes": sum(p.numel() * p.element_size() for p in unet.parameters()), "peak_bytes": memory,
        "seconds": {name: statistics.median(values) for name, values in times.items()}, "ratio_to_plain": ratios,
    }  # fmt: skip


def reference_step(unet: UNet2DConditionModel, args: tuple[Any, ...], kwargs: dict[str, Any], text: str | None) -> None:
    """One damped step as the plain method does it: two guided pairs on a patched U-Net."""
    import tomllib

    from tests.support.reference import denoise

    sample, _, prompt = args
    scheduler = DDIMScheduler(num_train_timesteps=1000, beta_schedule="scaled_linear")
    denoise(
        unet,
        scheduler,
        sample[:1],
        prompt_embeds=prompt[1:],
        negative_embeds=prompt[:1],
        recipe=tomllib.loads(text or ""),
        steps=1,
        guidance_scale=7.5,
        added_cond_kwargs=kwargs.get("added_cond_kwargs"),
    )


def table(result: dict[str, Any]) -> str:
    lines = ["| mode | seconds | ratio to plain |", "|---|---|---|"]
    lines += [
        f"| {name} | {result['seconds'][name]:.3f} | {ratio:.3f} |" for name, ratio in result["ratio_to_plain"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=CONFIGS, default="sd15-half")
    parser.add_argument("--size", type=int, default=1024, help="image pixels a side")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--reference", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options)
    what = f"{result['architecture']} at {options.size}², {options.dtype}, {result['machine']}"
    print(f"{time.strftime('%Y-%m-%d')}, {what}, torch {result['torch']}")
    print(table(result))
    print(f"weights {result['weights_bytes'] / 2**20:.0f} MiB, peak {result['peak_bytes'] / 2**20:.0f} MiB")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
