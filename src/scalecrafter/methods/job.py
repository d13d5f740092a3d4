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

from ..generation.generate import Progress, draw_noise
from ..models.controlnets import controlnets_for
from ..models.tasks import image_to_image, inpainting, text_to_image
from ..request.inputs import open_control, open_image, open_mask
from ..request.request import Request
from ..unet.architecture import Architecture
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
    """The pipeline to call for a picture of one pass, and what it starts from.

    That is noise, or the request's image, of which a mask lets only a part be redrawn; control images come along.
    """
    request, size = job.request, job.size
    controlnets = controlnets_for(job.pipe, [control.model for control in request.controls]) if request.controls else []
    if request.image is None:
        pipe = text_to_image(job.pipe, controlnets)
        return pipe, from_noise(job, size) | _controls(job, "image")
    start: dict[str, Any] = {"image": open_image(request, size), "strength": request.strength_or_default}
    start |= _controls(job, "control_image")
    if request.mask is None:
        return image_to_image(job.pipe, controlnets), start
    mask = {"mask_image": open_mask(request, size), "width": size[0], "height": size[1]}
    return inpainting(job.pipe, controlnets), start | mask


def _controls(job: Job, name: str) -> dict[str, Any]:
    """What a ControlNet pipeline is told of the request's controls, whose images it takes by `name`."""
    controls = job.request.controls
    if not controls:
        return {}
    images = [open_control(control, job.size) for control in controls]
    scales = [control.scale for control in controls]
    several = len(controls) > 1
    return {
        name: images if several else images[0],
        "controlnet_conditioning_scale": scales if several else scales[0],
    }


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
