"""Grids of pictures to look at: direct inference beside ScaleCrafter, same prompts and seeds.

python -m benchmarks.pictures --size 512 --count 16 -o pairs-512.png
python -m benchmarks.pictures --size 1024 --count 4 -o pairs-1024.png
python -m benchmarks.pictures --size 256 --count 16 -o docs/pictures/native.png  # native: one method only
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

import scalecrafter
from scalecrafter.request.request import default_guidance

PROMPTS = (
    "a blue fox with a red scarf in the snow",
    "a green frog in a meadow",
    "an orange cat wearing green glasses in the city at night",
    "a pink pig on the beach",
    "a white rabbit in the forest",
    "a gray owl in the mountains at sunset",
    "a purple bear with a yellow hat in a meadow",
    "a yellow penguin in the snow",
    "a brown dog with a blue bow tie in the desert",
    "a red mouse with a yellow crown in the forest",
    "a spotted green dog on the beach",
    "a striped blue cat in the desert at night",
    "a fluffy white bear in the snow at night",
    "an orange owl with purple glasses in the city",
    "a red pig in the mountains",
    "a purple frog with a green hat on the beach at sunset",
)


def make(
    pipe: Any, prompt: str, seed: int, size: tuple[int, int], steps: int, guidance: float, recipe: Any
) -> Image.Image:
    """One picture; `recipe` "none" is direct inference."""
    generator = torch.Generator().manual_seed(seed)

    def call() -> Image.Image:
        return pipe(
            prompt,
            width=size[0],
            height=size[1],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generator,
        ).images[0]

    if recipe == "none":
        return call()
    with scalecrafter.applied(pipe, recipe=recipe):
        return call()


def sheet(rows: list[list[Image.Image]], titles: list[str], shown: int) -> Image.Image:
    """Rows of cells, pictures scaled to `shown` pixels a side, with a title above each column of a pair."""
    title, columns = 28, len(rows[0])
    grid = Image.new("RGB", (columns * (shown + 4), title + len(rows) * (shown + 4)), "white")
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(16)
    for column in range(columns):
        draw.text((column * (shown + 4) + 4, 5), titles[column % len(titles)], fill="black", font=font)
        for row, pictures in enumerate(rows):
            cell = pictures[column].resize((shown, shown), Image.Resampling.LANCZOS)
            grid.paste(cell, (column * (shown + 4), title + row * (shown + 4)))
    return grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="critters")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=default_guidance("critters"))
    parser.add_argument("--seed", type=int, default=0, help="of the first picture; the others count up from it")
    parser.add_argument(
        "--recipe", action="append", help="beside direct inference; may be given several times (default: automatic)"
    )
    parser.add_argument("--pairs-a-row", type=int, default=4)
    parser.add_argument("--shown", type=int, default=256)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    pipe = scalecrafter.load_pipeline(options.model)
    pipe.set_progress_bar_config(disable=True)
    native = pipe.unet.config.sample_size * pipe.vae_scale_factor
    recipes: list[Any] = ["none"] if options.size == native else ["none", *(options.recipe or [None])]
    titles = ["direct" if r == "none" else f"ScaleCrafter{'' if r is None else f' {Path(r).stem}'}" for r in recipes]
    cells: list[Image.Image] = []
    for index in range(options.count):
        prompt = PROMPTS[index % len(PROMPTS)]
        for recipe, title in zip(recipes, titles, strict=True):
            start = time.perf_counter()
            cells.append(
                make(pipe, prompt, options.seed + index, (options.size,) * 2, options.steps, options.guidance, recipe)
            )
            print(f"{title}: {prompt} ({time.perf_counter() - start:.1f} s)", flush=True)
    width = min(options.pairs_a_row * len(recipes), len(cells))
    rows = [cells[start : start + width] for start in range(0, len(cells), width)]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    sheet([row for row in rows if len(row) == width], titles, options.shown).save(options.output, optimize=True)
    print(options.output)


if __name__ == "__main__":
    main()
