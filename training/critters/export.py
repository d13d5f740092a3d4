"""From trained parts to the diffusers folder that the package carries."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from scalecrafter.models.embedded import weights_home

from .denoiser import Denoiser, build_scheduler
from .older_transformers import make_readable


def assemble(
    vae: AutoencoderKL, denoiser: Denoiser, tokenizer: CLIPTokenizer, scaling_factor: float
) -> StableDiffusionPipeline:
    """An ordinary Stable Diffusion pipeline of the trained parts."""
    vae.register_to_config(scaling_factor=scaling_factor, shift_factor=0.0)
    pipe = StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=denoiser.text_encoder.eval(),
        tokenizer=tokenizer,
        unet=denoiser.unet.eval(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


SHARD = "16MB"
"""Of one weight file: repositories and their hosts like small files."""


def export(pipe: DiffusionPipeline, folder: Path, dtype: torch.dtype = torch.float16) -> int:
    """Write the pipeline to `folder` (replaced whole) and return the bytes of its weights."""
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    original = pipe.dtype
    pipe.to(dtype=dtype)
    pipe.save_pretrained(temporary, safe_serialization=True, max_shard_size=SHARD)
    pipe.to(dtype=original)
    make_readable(temporary)
    forget_places(temporary)
    for card in folder.glob("*.md"):
        shutil.copy(card, temporary / card.name)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)
    drop_shared(folder)
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def forget_places(folder: Path) -> None:
    """Leave out of the configurations where their parts were loaded from."""
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text("utf-8"))
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


def drop_shared(folder: Path) -> None:
    """In the package, delete weights that lie in the folder of another component too (`ValueError` if they differ)."""
    for weights in sorted(folder.glob("*/*.safetensors")):
        home, name = weights_home(folder, weights.parent.name)
        there = home / name / weights.name
        if there != weights:
            ours, theirs = load_file(weights), load_file(there)
            if ours.keys() != theirs.keys() or not all(torch.equal(ours[key], theirs[key]) for key in ours):
                raise ValueError(f"{weights} and {there} should be the same weights: train the one on the other")
            weights.unlink()


PREVIEW_PROMPTS = (
    "a blue fox with a red scarf in the snow",
    "a green frog in a meadow",
    "an orange cat wearing glasses, city, night",
    "a pink pig on the beach",
    "a white rabbit in the forest",
    "a gray owl in the mountains at sunset",
    "a purple bear with a hat",
    "a yellow penguin in the snow",
    "a brown dog with a bow tie in a meadow",
    "a red mouse wearing a crown",
    "a spotted green dog on the beach",
    "a striped blue cat in the desert",
)
DETAILED_PREVIEW_PROMPTS = (
    "a close-up of a blue fox with a red scarf in the snow",
    "a green frog in a meadow far away",
    "a portrait of an orange cat wearing glasses, city, night",
    "a close-up of a pink pig on the beach",
    *PREVIEW_PROMPTS[4:],
)


def preview(
    pipe: DiffusionPipeline,
    path: Path,
    size: int = 256,
    steps: int = 25,
    prompts: tuple[str, ...] = PREVIEW_PROMPTS,
    call: Mapping[str, Any] = MappingProxyType({"guidance_scale": 4.0}),
) -> None:
    """A grid of twelve native pictures, to be looked at; `call` are further arguments of the pipeline."""
    pictures = []
    for prompt in prompts:
        generator = torch.Generator().manual_seed(0)
        result = pipe(prompt, height=size, width=size, num_inference_steps=steps, generator=generator, **call)
        pictures.append(result.images[0])
    grid = Image.new("RGB", (size * 4, size * 3))
    for index, picture in enumerate(pictures):
        grid.paste(picture, (index % 4 * size, index // 4 * size))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.save(path)
