"""What each lever of the method fast is worth, on critters: `python -m benchmarks.fast_levers -o FOLDER`.

Each row changes one lever.  Seconds are the processor's, all rows in one run, each the least of its pictures.  The grid
of pictures (rows are variants, columns prompts) is to be looked at before any claim.  `--reference` adds the reference
implementation with the published schedule: a step of each of its kinds is timed, and a picture put together from them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from scalecrafter import Request, generate, load_pipeline
from scalecrafter._util.sizes import ImageSize
from scalecrafter.bench.rows import passes_of
from scalecrafter.cost.architectures import outline
from scalecrafter.cost.flops import FlopCounts
from scalecrafter.unet.architecture import read_architecture
from tests.support.reference import denoise as reference_denoise

PROMPTS = ("a blue fox with a red scarf in the snow at night", "a green frog in a meadow")
VARIANTS: dict[str, dict[str, Any]] = {
    "cascade": {"method": "cascade"},
    "fast": {"method": "fast"},
    "all steps": {"method": "fast", "fast": {"most_steps": 25}},
    "dpm++": {"method": "fast", "fast": {"scheduler": "dpm++"}},
    "guided throughout": {"method": "fast", "fast": {"guided_until": 1.0}},
    "guided stages": {"method": "fast", "fast": {"stage_guidance": 2.0}},
    "full attention": {"method": "fast", "fast": {"attention": "full"}},
    "coarse features": {"method": "fast", "fast": {"features": "coarse"}},
    "windows and phases": {"method": "fast", "fast": {"attention": "windows"}},
    "stages of 0.3": {"method": "fast", "fast": {"restart": 0.3}},
    "VAE with pooled keys": {"method": "fast", "fast": {"vae_attention": "pooled"}},
}
PUBLISHED = {
    "redilation": {
        "until": 0.7, "progressive": True,
        "layers": {"down_blocks.1": 2, "down_blocks.2": 3, "down_blocks.3": 4, "mid_block": 4, "up_blocks.0": 4,
                   "up_blocks.1": 3, "up_blocks.2": 2},
    },
    "noise_damping": {
        "until": 0.7,
        "layers": {"down_blocks.2": 3, "down_blocks.3": 4, "mid_block": 4, "up_blocks.0": 4, "up_blocks.1": 3},
    },
}  # fmt: skip
"""The published recipe of SD 1.5 at four times the side; critters has the same levels."""


def reference_seconds(pipe: Any, size: ImageSize, steps: int) -> float:
    """A picture of the reference implementation, from one damped and one plain step, and the decoding."""
    text, nothing = pipe.encode_prompt(PROMPTS[0], "cpu", 1, True, "")
    shape = (1, pipe.unet.config.in_channels, size.height // 8, size.width // 8)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def timed(recipe: dict[str, Any]) -> float:
        start = time.process_time()
        reference_denoise(
            pipe.unet, pipe.scheduler, latents, prompt_embeds=text, negative_embeds=nothing, recipe=recipe, steps=1,
            guidance_scale=2.0,
        )  # fmt: skip
        return time.process_time() - start

    damped, plain = timed(PUBLISHED), timed({})
    start = time.process_time()
    with torch.no_grad():
        pipe.vae.decode(latents)
    count = sum(step / steps < 0.7 for step in range(steps))
    return count * damped + (steps - count) * plain + time.process_time() - start


def main() -> None:
    """Print the table and save the grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--pictures", type=int, default=len(PROMPTS))
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    parser.add_argument("-o", "--output", type=Path, default=Path())
    options = parser.parse_args()
    size = ImageSize(options.side, options.side)
    pipe, model = load_pipeline("critters"), outline("critters")
    pipe.set_progress_bar_config(disable=True)
    counts, rows = FlopCounts(model), []
    threads = torch.get_num_threads()
    print(f"critters, {size.width}×{size.height}, 25 steps, {threads} threads, torch {torch.__version__}, CPU seconds")
    print("| variant | GFLOP | seconds |\n|---|---|---|")
    for name in options.only:
        pictures, seconds = [], []
        for seed, prompt in enumerate(PROMPTS[: options.pictures]):
            asked = {"prompt": prompt, "seed": seed, "width": size.width, "height": size.height, "steps": 25}
            request = Request.from_mapping(asked | VARIANTS[name])
            start = time.process_time()
            pictures.append(generate(pipe, request).image)
            seconds.append(time.process_time() - start)
        flops = counts.picture(passes_of(request.method, request, read_architecture(model)), request.steps)
        print(f"| {name} | {flops / 1e9:.0f} | {min(seconds):.1f} |", flush=True)
        rows.append(pictures)
    if options.reference:
        print(f"| reference implementation, published schedule | – | {reference_seconds(pipe, size, 25):.1f} |")
    sheet = Image.new("RGB", (options.pictures * options.side, len(rows) * options.side))
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (column * options.side, row * options.side))
    sheet.save(options.output / f"fast-levers-{options.side}.png")


if __name__ == "__main__":
    main()
