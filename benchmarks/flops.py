"""How many floating-point operations the published U-Nets and the VAE need, counted on the meta device.

    python -m benchmarks.flops                       # SDXL at 1024² and 4096²
    python -m benchmarks.flops --architecture sd15 --size 512 --size 2048

A multiplication and an addition count as two.  Convolutions, matrix products and attention are counted, as
torch.utils.flop_counter does; the rest is small.  Re-dilation by a whole factor needs as many as the plain convolution.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.step_cost import CONFIGS

VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
"""Of Stable Diffusion 1, 2 and XL."""


def count(model: torch.nn.Module, *args: Any, **kwargs: Any) -> int:
    """Operations of one call of a model on the meta device."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*args, **kwargs)
    return int(counter.get_total_flops())


def unet_flops(architecture: str, side: int) -> int:
    """One evaluation for one picture (half of a guided pair) of `side`² image pixels."""
    config = CONFIGS[architecture]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
        latents = torch.empty(1, 4, side // 8, side // 8)
        text = torch.empty(1, 77, config["cross_attention_dim"])
        added = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)} if architecture == "sdxl" else None
        return count(unet, latents, torch.empty(1), text, added_cond_kwargs=added)


def decoder_flops(side: int) -> int:
    """Decoding one picture of `side`² image pixels."""
    with torch.device("meta"):
        vae = AutoencoderKL(**VAE)
        latents = torch.empty(1, 4, side // 8, side // 8)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            vae.decode(latents)
    return int(counter.get_total_flops())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=CONFIGS, default="sdxl")
    parser.add_argument("--size", type=int, action="append", help="side in image pixels; repeatable")
    arguments = parser.parse_args()
    print("| side | U-Net, one half of a pair | decoding |\n|---|---|---|")
    for side in arguments.size or (1024, 4096):
        unet, decoder = unet_flops(arguments.architecture, side) / 1e12, decoder_flops(side) / 1e12
        print(f"| {side} | {unet:.2f} TFLOP | {decoder:.2f} TFLOP |", flush=True)


if __name__ == "__main__":
    main()
