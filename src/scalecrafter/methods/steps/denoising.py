"""The steps of a picture: noise, denoising, decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..._util.sizes import GridSize
from ...models.denoisers import (
    as_given,
    call_arguments,
    denoiser_of,
    noise_dtype,
)
from ...ops.packing import as_maps
from ...request.request import Request, RequestError
from ...vae import decoded, in_type, latent_channels
from .callbacks import Change, ProgressCallback, unguided_after
from .diagnostics import check_finite, explained_decoding
from .stopwatch import DECODE, DENOISE, part_time

Progress = Callable[[int, int], None]
"""Called with (steps done, all steps of all passes) after each step of denoising; what it raises stops the picture."""


def draw_noise(pipe: Any, size: GridSize, generator: torch.Generator) -> Tensor:
    """Unit Gaussian latents `(1, channels, height, width)`, drawn on the CPU in float32 whatever the model runs on."""
    noise = torch.randn((1, latent_channels(pipe.vae), *size), generator=generator)
    return noise.to(noise_dtype(pipe))


def denoise(
    pipe: Any,
    request: Request,
    generator: torch.Generator | list[torch.Generator],
    progress: Progress | None,
    change: Change | None = None,
    **start: Any,
) -> Tensor:
    """Run the pipeline up to the latents.  `start` overrides the request's arguments; `change` acts after each step.

    Its `guided_steps` are how many steps are guided, of a U-Net's pipeline and one picture.

    Ancestral schedulers draw from the same generator.  The prompts of several pictures have a generator each.
    """
    prompt, negative = start.pop("prompt", request.prompt), start.pop("negative_prompt", request.negative)
    values = call_arguments(pipe, prompt, negative, start.pop("guidance_scale", request.guidance))
    factor = pipe.vae_scale_factor
    size = GridSize(start.get("height", 0) // factor, start.get("width", 0) // factor)
    if "latents" in start:
        start["latents"] = as_given(pipe, start["latents"])
    show = getattr(progress, "show", None)
    report: Any = ProgressCallback(
        progress, None if show is None else lambda latents: show(as_maps(latents, size)), change
    )
    guided_steps = start.pop("guided_steps", None)
    if guided_steps is not None:
        report = unguided_after(report, guided_steps, pipe)
    shape: list[int] = []
    with part_time(DENOISE, pipe, shape), _latents_of_many_channels(pipe, start.get("image")):
        output = pipe(
            **values | start, num_inference_steps=request.steps, generator=generator, callback_on_step_end=report,
            output_type="latent",
        )  # fmt: skip
        latents = as_maps(output.images, size)
        shape.extend(latents.shape)
    return latents


@contextmanager
def _latents_of_many_channels(pipe: Any, image: Any) -> Iterator[None]:
    """Let a pipeline begin from latents, if `image` is such, that have other than four channels.

    diffusers' image-to-image pipelines of U-Nets take a tensor of four channels for latents, and encode every other.
    """
    if getattr(pipe, "unet", None) is None or not isinstance(image, Tensor) or image.shape[1] == 4:
        yield
        return
    vae, processor = pipe.vae, pipe.image_processor
    before = processor.config.vae_latent_channels
    processor.register_to_config(vae_latent_channels=image.shape[1])
    pipe.__dict__["vae"] = _GivesLatentsBack(vae)  # in this pipeline alone: others may share the VAE
    try:
        yield
    finally:
        pipe.__dict__["vae"] = vae
        processor.register_to_config(vae_latent_channels=before)


class _GivesLatentsBack:
    """A VAE whose `encode` is given latents, and gives back what its pipeline scales to them."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    def encode(self, latents: Tensor) -> Any:
        return SimpleNamespace(latents=latents / self._vae.config.scaling_factor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vae, name)


def picture(pipe: Any, latents: Tensor) -> Image.Image:
    """The picture in 8-bit RGB that latents `(1, channels, height / 8, width / 8)` stand for.

    Raises:
        NumericalError: for NaN or infinity in latents or picture.
        RequestError: when the model's own safety checker refuses it.
    """
    check_finite(latents, "the latents after denoising", pipe)
    pixels = decode(pipe, latents)
    check_finite(pixels, "the decoded picture", pipe)
    _respect_safety_checker(pipe, pixels)
    image: Image.Image = pipe.image_processor.postprocess(pixels, output_type="pil")[0]
    return image


def decode(pipe: Any, latents: Tensor) -> Tensor:
    """Pixels `(1, 3, height, width)`, about −1…1, of latents `(1, channels, height / 8, width / 8)`.

    As the pipelines of diffusers do it: latents are scaled back, and a VAE that is known to overflow in float16
    (`force_upcast`) decodes in float32.
    """
    vae = pipe.vae
    upcast = vae.dtype is torch.float16 and bool(vae.config.get("force_upcast", False))
    widened = in_type(vae, torch.float32) if upcast else nullcontext()
    with widened, explained_decoding(pipe, latents), part_time(DECODE, pipe, list(latents.shape)):
        return decoded(vae, latents)


def _respect_safety_checker(pipe: Any, pixels: Tensor) -> None:
    """A model's own safety checker is asked, as its pipeline would ask it; it blackens pictures, we raise instead."""
    if getattr(pipe, "safety_checker", None) is None:
        return
    _, flagged = pipe.run_safety_checker(pixels.clone(), pixels.device, denoiser_of(pipe).dtype)
    if flagged and any(flagged):
        raise RequestError("the model's own safety checker refused this picture: change the prompt or the seed")
