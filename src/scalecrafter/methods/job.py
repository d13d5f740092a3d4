"""One picture being made, and the steps that the methods have in common.

`Job` is what a method's `make` is given.  Below it stand the ways of beginning a pass, from noise or from a picture,
and the progress of a picture that takes several.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..architecture import Architecture
from ..generation import Progress, draw_noise, image_to_image, open_image
from ..request import Request
from .stages import Size


@dataclass(frozen=True)
class Job:
    """One picture being made."""

    pipe: Any
    """A text-to-image pipeline with a U-Net, which has the request's scheduler."""
    architecture: Architecture
    request: Request
    """Settled: nothing that the picture depends on is open."""
    generator: torch.Generator
    """On the CPU, with the request's seed; everything random is drawn from it, in order."""
    progress: Progress | None = None

    @property
    def size(self) -> Size:
        """(width, height) in image pixels."""
        assert self.request.width is not None
        assert self.request.height is not None
        return self.request.width, self.request.height

    @property
    def latent_size(self) -> Size:
        """(height, width) in latent pixels, the order of a tensor's axes."""
        return latent_size(self.architecture, self.size)


def latent_size(architecture: Architecture, size: Size) -> tuple[int, int]:
    """(height, width) in latent pixels of a size (width, height) in image pixels."""
    width, height = size
    return height // architecture.pixel_factor, width // architecture.pixel_factor


def opening(job: Job) -> tuple[Any, dict[str, Any]]:
    """The pipeline to call for a picture of one pass, and what it starts from: the request's image, or noise."""
    if job.request.image is None:
        return job.pipe, from_noise(job, job.size)
    start = {"image": open_image(job.request, job.size), "strength": job.request.strength_or_default}
    return image_to_image(job.pipe), start


def from_noise(job: Job, size: Size) -> dict[str, Any]:
    """What a text-to-image pipeline starts from at `size` (width, height) in image pixels."""
    noise = draw_noise(job.pipe, job.architecture, size, job.generator)
    return {"latents": noise, "width": size[0], "height": size[1]}


def enlarged(latents: Tensor, size: tuple[int, int]) -> Tensor:
    """Latents `(batch, channels, height, width)` at another size (height, width), bilinearly."""
    return F.interpolate(latents, size, mode="bilinear", align_corners=False)


def progress_of_passes(job: Job, strengths: Sequence[float]) -> list[Progress | None]:
    """For each pass the progress to give to `denoise`, so that the job's counts the steps of all of them.

    Args:
        job: whose pipeline, with its scheduler, runs the passes.
        strengths: of each pass the fraction of the trajectory that it runs, as image-to-image counts it.
    """
    if job.progress is None:
        return [None] * len(strengths)
    lengths = [table_length(job.pipe.scheduler, job.request.steps, strength) for strength in strengths]
    return [_shifted(job.progress, sum(lengths[:number]), sum(lengths)) for number in range(len(lengths))]


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda step, _steps_of_the_pass: progress(before + step, total)


def table_length(scheduler: Any, steps: int, strength: float = 1.0) -> int:
    """How many entries of a scheduler's table a run goes through; more than `steps` for Heun and its like."""
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps)
    skipped: int = max(steps - int(steps * strength), 0) * scheduler.order
    return len(scheduler.timesteps) - skipped
