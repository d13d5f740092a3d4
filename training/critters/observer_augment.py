"""What happens to pictures before they are looked at: noise, blur, JPEG, colour, scaling, wobble, and a model's touch.

Everything is drawn from the generator that is passed in.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from .autoencoder import to_unit
from .loop import autocast


def degraded(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture, one time in five as it is, else with several small faults."""
    if rng.random() < 0.2:
        return picture
    image = Image.fromarray(picture)
    if rng.random() < 0.3:
        side = int(image.width * rng.uniform(0.35, 0.9))
        how = Image.Resampling.BILINEAR if rng.random() < 0.5 else Image.Resampling.BICUBIC
        image = image.resize((side, side), how).resize(image.size, how)
    elif rng.random() < 0.35:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 2.2))))
    pixels: NDArray[np.floating] = np.asarray(image, np.float32)
    if rng.random() < 0.5:
        pixels = pixels * rng.uniform(0.92, 1.08, 3) + rng.uniform(-10, 10, 3)
        pixels = (pixels - 128) * rng.uniform(0.85, 1.1) + 128 + rng.uniform(-10, 10)
    if rng.random() < 0.35:
        pixels = pixels + _noise(pixels.shape, float(rng.uniform(2, 16)), rng)
    image = Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))
    if rng.random() < 0.25:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=int(rng.integers(25, 92)))
        image = Image.open(stream)
    return np.asarray(image)


def _noise(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Fine noise, or (half the time) noise in lumps of two to eight pixels."""
    if rng.random() < 0.5:
        return strength * rng.standard_normal(shape, np.float32)
    lump = int(rng.integers(2, 9))
    rows, columns = -(-shape[0] // lump), -(-shape[1] // lump)
    coarse = torch.from_numpy(rng.standard_normal((1, shape[2], rows, columns), np.float32))
    fine = F.interpolate(coarse, size=shape[:2], mode="bilinear", align_corners=False)
    return np.asarray(strength * 1.5 * fine[0].permute(1, 2, 0).numpy())


def noise(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A picture `(height, width, 3)` of nothing but noise, grey or coloured, about any colour."""
    pixels = rng.uniform(60, 196, 3) + _noise(shape, float(rng.uniform(10, 80)), rng)
    if rng.random() < 0.5:
        pixels = pixels.mean(2, keepdims=True).repeat(3, 2)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def wobbled(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """`(batch, 3, height, width)` with outlines that waver by up to four pixels, in four pictures of ten."""
    chosen = torch.from_numpy(rng.random(len(pictures)) < 0.4)
    batch, _, height, width = (int(chosen.sum()), *pictures.shape[1:])
    if not batch:
        return pictures
    field = torch.from_numpy(rng.uniform(-1, 1, (batch, 2, 12, 12)).astype(np.float32))
    field = field * torch.from_numpy(rng.uniform(1, 4, (batch, 1, 1, 1)).astype(np.float32))
    field = F.interpolate(field, size=(height, width), mode="bicubic", align_corners=False)
    field = field * torch.tensor([2 / width, 2 / height])[None, :, None, None]
    straight = F.affine_grid(torch.eye(2, 3).expand(batch, 2, 3), [batch, 3, height, width], align_corners=False)
    out = pictures.clone()
    grid = straight + field.permute(0, 2, 3, 1)
    out[chosen] = F.grid_sample(pictures[chosen], grid, padding_mode="border", align_corners=False)
    return out


@torch.no_grad()
def softened(
    path: Path,
    pictures: NDArray[np.uint8],
    vae: AutoencoderKL,
    count: int,
    device: torch.device,
    dtype: torch.dtype,
    report: Callable[[str], None] = print,
) -> NDArray[np.uint8]:
    """The first `count` pictures through the VAE with noise on the latents, half of them with blurred latents too.

    Made once at `path` (uint8 `(count, 256, 256, 3)`): generated pictures have just this softness.
    """

    def touch(start: int, block: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rng = np.random.default_rng((start, 9))
        with autocast(device, dtype):
            mean = vae.encode(to_unit(block, device)).latent_dist.mean.float()
            noise = torch.from_numpy(rng.standard_normal(tuple(mean.shape), np.float32)).to(device)
            strength = torch.from_numpy(rng.uniform(0, 0.25, len(mean)).astype(np.float32)).to(device)
            blur = torch.from_numpy((rng.random(len(mean)) < 0.5) * rng.uniform(0, 0.35, len(mean))).float().to(device)
            mean = mean.lerp(F.avg_pool2d(mean, 3, 1, 1, count_include_pad=False), blur[:, None, None, None])
            latents = mean + strength[:, None, None, None] * mean.std() * noise
            decoded = vae.decode(latents).sample.float()
        pixels = (decoded.clamp(-1, 1) * 127.5 + 128).clamp(0, 255)
        return np.asarray(pixels.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy())

    return _touched(path, pictures, count, touch, report)


def redrawn(
    path: Path,
    pictures: NDArray[np.uint8],
    captions: list[str],
    model: StableDiffusionPipeline,
    count: int,
    device: torch.device,
    dtype: torch.dtype,
    report: Callable[[str], None] = print,
) -> NDArray[np.uint8]:
    """The first `count` pictures as the model redraws them from a little noise: in place, with the model's own faults.

    Only of what it knows, one whole animal of the usual size, does it make the same again; and even there an eye may
    come out as a smudge.

    Image to image (SDEdit, arXiv 2108.01073) in few steps.  Made once at `path` (uint8 `(count, 256, 256, 3)`).
    """
    redraw = StableDiffusionImg2ImgPipeline(**model.components, requires_safety_checker=False)
    redraw.set_progress_bar_config(disable=True)

    def touch(start: int, block: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rng = np.random.default_rng((start, 10))
        with autocast(device, dtype):
            images = redraw(
                prompt=captions[start : start + len(block)],
                image=[Image.fromarray(picture) for picture in block],
                strength=float(rng.uniform(*REDRAWN_STRENGTH)),
                num_inference_steps=REDRAWN_STEPS,
                guidance_scale=float(rng.choice((1.0, 4.0))),
                generator=torch.Generator().manual_seed(start),
            ).images
        return np.stack([np.asarray(image) for image in images])

    return _touched(path, pictures, count, touch, report)


REDRAWN_STRENGTH = (0.2, 0.5)
"""Above this, animals begin to move from where they are marked."""
REDRAWN_STEPS = 15
_BATCH = 16


def _touched(
    path: Path,
    pictures: NDArray[np.uint8],
    count: int,
    touch: Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]],
    report: Callable[[str], None],
) -> NDArray[np.uint8]:
    """What `touch(first index, block)` makes of the first `count` pictures, kept at `path`."""
    if path.exists():
        return np.asarray(np.load(path, mmap_mode="r"))
    out = np.empty((count, *pictures.shape[1:]), np.uint8)
    for start in range(0, count, _BATCH):
        stop = min(start + _BATCH, count)
        out[start:stop] = touch(start, np.asarray(pictures[start:stop]))
        if start // _BATCH % 20 == 0:
            report(f"{path.stem}: {start}/{count} pictures")
    temporary = path.with_suffix(".part.npy")
    np.save(temporary, out)
    temporary.replace(path)
    return np.asarray(np.load(path, mmap_mode="r"))
