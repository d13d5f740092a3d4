"""What a later stage keeps of the picture that it starts from, and how an earlier one hands it over before its end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch import Tensor

from ...ops.scale_fusion import cosine_weight
from ...request.request import RequestError
from .denoising import Progress
from .job import PictureJob


def mixed_denoise(job: PictureJob, pipe: Any, power: float, progress: Progress | None, **start: Any) -> Tensor:
    """Image to image whose latents are mixed, before each step, with the noised picture that it starts from.

    Paper: Qiu et al. 2024 (FreeScale, arXiv 2412.09626), section 3: z ← w(t) · noised(picture, t) + (1 − w(t)) · z,
    with the one noise of the start and the cosine weight w (`ops.scale_fusion.cosine_weight`).

    Args:
        job: the picture.
        pipe: an image-to-image pipeline.
        power: of the cosine weight.
        progress: of this pass.
        start: arguments of the pipeline's call.
    """
    scheduler = pipe.scheduler
    noised: list[tuple[Tensor, Tensor]] = []

    def add_noise(plain: Callable[..., Tensor], picture: Tensor, noise: Tensor, timesteps: Any) -> Tensor:
        if not noised:
            noised.append((picture, noise))
        return plain(picture, noise, timesteps)

    def change(pipeline: Any, step: int, latents: Tensor) -> Tensor:
        left = pipeline.num_timesteps - (step + 1)
        if left < 1:
            return latents
        timestep = scheduler.timesteps[len(scheduler.timesteps) - left]
        weight = cosine_weight(float(timestep), scheduler.config.num_train_timesteps, power)
        again: Tensor = scheduler.add_noise(*noised[0], timestep[None])
        return (1 - weight) * latents + weight * again.to(latents.dtype)

    with _wrapped(scheduler, "add_noise", add_noise):
        return job.denoise(pipe, progress=progress, change=change, **start)


def predicted_after(job: PictureJob, pipe: Any, steps: int, progress: Progress | None, **start: Any) -> Tensor:
    """The latents that the model predicts for the end, after so many steps of a run; the rest is not run.

    Args:
        job: the picture.
        pipe: a pipeline.
        steps: entries of the scheduler's table, 1 or more.
        progress: of this pass.
        start: arguments of the pipeline's call.

    Raises:
        RequestError: for a scheduler that does not tell its prediction.
    """
    predictions: list[Tensor] = []

    def step(plain: Callable[..., Any], *args: Any, return_dict: bool = True, **options: Any) -> Any:
        output = plain(*args, **options, return_dict=True)
        prediction = getattr(output, "pred_original_sample", None)
        if prediction is None:
            name = type(pipe.scheduler).__name__
            raise RequestError(
                f"refresh needs a scheduler that tells what it predicts, and {name} does not: take ddim or euler"
            )
        predictions[:] = [prediction]
        return output if return_dict else (output.prev_sample,)

    def change(_pipeline: Any, done: int, latents: Tensor) -> Tensor:
        if done + 1 >= steps:
            raise _HandedOver
        return latents

    with _wrapped(pipe.scheduler, "step", step), suppress(_HandedOver):
        job.denoise(pipe, progress=progress, change=change, **start)
    return predictions[0]


class _HandedOver(Exception):
    """Ends a run whose prediction goes on elsewhere."""


@contextmanager
def _wrapped(scheduler: Any, name: str, wrapper: Callable[..., Any]) -> Iterator[None]:
    """For the length of a `with` block, let a wrapper stand in for a method; it is given the method first."""
    plain = getattr(scheduler, name)
    before = scheduler.__dict__.get(name)
    setattr(scheduler, name, functools.wraps(plain)(functools.partial(wrapper, plain)))
    try:
        yield
    finally:
        del scheduler.__dict__[name]
        if before is not None:
            setattr(scheduler, name, before)
