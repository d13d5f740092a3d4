"""From a request to a picture: the one path that command line, batch and server share.

`generate` settles what was left open and lets the request's method make the picture (`methods`, a file each).
"""

from __future__ import annotations

import inspect
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from .._util.sizes import ImageSize, ModelSizes
from ..errors import ModelError
from ..methods.steps.denoising import Progress
from ..methods.steps.diagnostics import explained_out_of_memory
from ..methods.steps.enlarging import enlarge_image
from ..methods.steps.job import PictureJob
from ..methods.steps.stopwatch import part_times
from ..models.denoisers import denoiser_name, denoiser_of, kind_of, lacks_of, read_model, taken_channels
from ..models.schedulers import using_scheduler, viewer_name
from ..patching.apply import set_aside
from ..request.batching import batch_key
from ..request.enlarge_source import enlarged_size, open_source, source_size
from ..request.inputs import composite_mask, digests
from ..request.methods import METHODS
from ..request.request import Request, RequestError, says_guidance
from ..transformer.architecture import TransformerArchitecture
from ..vae import AUTO, MemoryBudget, latent_channels, vae_memory_applied
from . import peak_memory
from .checks import check_method, check_task
from .timings import remember

UNSCALED = ("direct", "hires-fix", "attention-scaling")
"""Methods that leave a transformer's positions as they are at the picture's own size."""


@dataclass(frozen=True)
class Result:
    """A picture, and how it came to be."""

    image: Image.Image
    request: Request
    """What was asked for, with nothing left open: size and seed are numbers, a recipe file is its text."""
    seconds: float
    peak_memory: int | None
    """Bytes: on a GPU the most that torch held during this picture, else the most that this process ever held."""
    environment: Mapping[str, str]
    """Device, dtype and scheduler that made it."""
    notes: tuple[str, ...] = ()
    """What was done to a picture that was enlarged, before that."""


def generate(
    pipe: Any, request: Request, progress: Progress | None = None, *, vae_memory: MemoryBudget = AUTO
) -> Result:
    """Make one picture.

    Args:
        pipe: a text-to-image pipeline, as `load_pipeline` gives it, or for requests with a mask an
            inpainting one; afterwards it is what it was.
        request: what to make; its `model`, `dtype` and `device` are only recorded: `pipe` is already loaded.
        progress: called with (steps done, all steps) after each step; if it has a method `show`, that is called with
            the latents of the step (see `vae.previews`).
        vae_memory: memory budget for the VAE, as `apply` takes it; it does not change the picture.

    Returns:
        The picture in 8-bit RGB with the request as it was carried out.  The same request gives the same picture,
        to the bit, on the same machine with the same packages.

    Raises:
        ModelError: for a pipeline that makes videos, or pictures of something else than a prompt.
        SizeError: for a size that the model cannot make; names the nearest ones that it can.
        RequestError: for an image, mask or control image that is missing or has changed, or a mask that does not
            lie on its image.
        ModelError: for a ControlNet that cannot be loaded or is made for another model, or a model for another task.
        RecipeError: for a recipe that does not fit the model, or a method that would change nothing about it.
        NumericalError: for NaN or infinity in latents or picture.
        OutOfMemoryError: says what was tried, how much was needed, and which setting to try next.
    """
    return generate_many(pipe, [request], progress, vae_memory=vae_memory)[0]


def generate_many(
    pipe: Any, requests: Sequence[Request], progress: Progress | None = None, *, vae_memory: MemoryBudget = AUTO
) -> list[Result]:
    """Make several pictures of one batch key (`request.batching`) in one call of the pipeline; as `generate` otherwise.

    Each is the picture that it would be alone, whatever its place among the others, but for rounding: on a CPU no
    8-bit value was seen to differ by more than 1 (figures: docs/guide/batch.md).  One request alone is made to the
    bit as by `generate`.  Of each result, `seconds` is its share.

    Raises:
        RequestError: for requests that cannot be made together; else as `generate`, for all of them.
    """
    started = time.perf_counter()
    _check_draws_prompts(pipe)
    architecture = read_model(pipe)
    for request in requests:
        check_method(request, kind_of(architecture), lacks_of(architecture))
        check_task(request, taken_channels(pipe), latent_channels(pipe.vae))
    settled = [settle(request, architecture)[0] for request in requests]
    first = settled[0]
    _check_one_batch(settled)
    if isinstance(architecture, TransformerArchitecture) and first.method in UNSCALED and first.enlarge is None:
        architecture.check_reach(architecture.grid(first.height or 0, first.width or 0))

    peak_memory.reset(pipe)
    before = peak_memory.peak(pipe)
    with (
        part_times() as parts,
        torch.no_grad(),
        explained_out_of_memory(first, architecture, denoiser_name(pipe)),
        set_aside(pipe),
        using_scheduler(pipe, first.scheduler, first.seed),
        vae_memory_applied(pipe.vae, vae_memory),
    ):
        jobs = [PictureJob(pipe, architecture, one, _generator(one), progress) for one in settled]
        images, notes = _make(jobs)
        if first.image is not None and first.enlarge is None:
            notes = _like_its_image(images[0], requests[0], first)
        environment = _environment(pipe)
    seconds = (time.perf_counter() - started) / len(settled)
    peak = peak_memory.peak(pipe)
    remember(pipe, settled, parts, seconds, peak if peak != before else None)
    return [Result(image, one, seconds, peak, environment, notes) for image, one in zip(images, settled, strict=True)]


def _make(jobs: Sequence[PictureJob]) -> tuple[list[Image.Image], tuple[str, ...]]:
    """The pictures of requests of one batch key, and what was done to the one that was enlarged."""
    first = jobs[0].request
    if first.enlarge is not None:
        image, notes = enlarge_image(jobs[0])
        return [image], notes
    method = METHODS[first.method]
    make_batch = method.make_batch if len(jobs) > 1 else None
    images = make_batch(jobs) if make_batch else [method.make(job) for job in jobs]
    return [composite_mask(image, job.request) if job.request.mask else image for image, job in zip(images, jobs)], ()


def _like_its_image(picture: Image.Image, request: Request, settled: Request) -> tuple[str, ...]:
    """Give a picture the colour profile of the image that it was made from; what was done to that image."""
    source = open_source(str(request.image))
    if source.profile is not None:
        picture.info["icc_profile"] = source.profile
    notes = source.notes if source.alpha is None else (*source.notes, "put its image on white, where it is transparent")
    own, made = source.colours.size, (settled.width, settled.height)
    if request.width is not None or own == made:
        return notes
    size = f"its image has {own[0]}×{own[1]} pixels: drawn at {made[0]}×{made[1]}, the nearest good size"
    return (*notes, size)


def _check_draws_prompts(pipe: Any) -> None:
    """Whether a pipeline's call takes what a request has (`ModelError`)."""
    kind, parameters = type(pipe).__name__, inspect.signature(type(pipe).__call__).parameters
    instead = "in Python, call scalecrafter.apply(pipe) and then the pipeline as always"
    if "num_frames" in parameters or "video_length" in parameters:
        raise ModelError(f"{kind} makes videos, and a request is for a picture: {instead}")
    takes_anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    missing = {"prompt", "height", "width"} - set(parameters)
    if missing and not ("prompt" in parameters and takes_anything):
        raise ModelError(f"{kind} does not draw a prompt at a given size: {instead}")


def settle(
    request: Request, architecture: ModelSizes, source: ImageSize | None = None
) -> tuple[Request, tuple[int, int]]:
    """The request with everything decided that it left open, and its size (width, height) in image pixels.

    The size, unless asked for, is that of the picture it starts from, or the nearest one that the model can make; else
    twice the native side.  The seed is drawn unless given; a recipe file becomes its text; the pictures that it starts
    from are known by their SHA-256.  With `source`, its image's size, they need not be at hand, and are not read.
    """
    known = {} if source is not None else digests(request)
    if request.enlarge is not None:
        width, height = enlarged_size(request, source)
    elif request.width and request.height:
        width, height = request.width, request.height
        architecture.check_size(height=height, width=width)
    elif request.image is not None:
        width, height = architecture.nearest_size(source or source_size(request.image))
    else:
        width, height = architecture.default_size
    seed = secrets.randbelow(2**32) if request.seed is None else request.seed
    own = getattr(architecture, "guidance", None)
    if own is not None and "guidance" not in request.model_fields_set and not says_guidance(request.model):
        known["guidance"] = own
    settled = request.self_contained().changed(width=width, height=height, seed=seed, **known)
    return settled, (width, height)


def _check_one_batch(requests: Sequence[Request]) -> None:
    if len(requests) > 1 and (None in (keys := {batch_key(request) for request in requests}) or len(keys) > 1):
        raise RequestError(
            "these requests cannot be made together: beside prompt, negative prompt and seed they must say the same, "
            "without an image, and with a method that can; make them one by one"
        )


def _generator(request: Request) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(request.seed or 0)


def _environment(pipe: Any) -> dict[str, str]:
    return {
        "device": str(pipe.device),
        "dtype": str(denoiser_of(pipe).dtype).removeprefix("torch."),
        "scheduler": type(pipe.scheduler).__name__,
        "sampler": viewer_name(pipe.scheduler),
    }
