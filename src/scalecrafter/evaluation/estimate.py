"""What a run will make, and about how long that takes, before it begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .._util.sizes import ModelSizes
from ..generation.generate import settle
from ..models.denoisers import call_arguments, read_model, unguided
from ..request.methods import METHODS
from ..request.passes import Denoising, Pass
from ..request.request import Request
from .settings import Sample, Size


@dataclass(frozen=True)
class PlannedCell:
    """The pictures of one method at one size that are to be made."""

    label: str
    size: Size
    pictures: int
    seconds_each: float | None
    """None where it cannot be told: the method does not say what its pictures are made of, say."""


def planned(pipe: Any, samples: Sequence[Sample]) -> list[PlannedCell]:
    """What is to be made, with an estimate of its time from small pictures at the native size.

    Args:
        pipe: a pipeline as `load_pipeline` gives it; it is called a few times.
        samples: the pictures to make.

    Returns:
        The cells in the order of their first picture.  A pass counts by the area of its pictures, so attention over
        many more pixels makes it take longer than that.
    """
    by_cell: dict[tuple[str, Size], list[Sample]] = {}
    for sample in samples:
        by_cell.setdefault((sample.label, sample.size), []).append(sample)
    if not by_cell:
        return []
    architecture = read_model(pipe)
    try:
        seconds = _seconds_a_pixel(pipe, samples[0].prompt.text, architecture)
    except (RuntimeError, TypeError, ValueError):  # a U-Net that wants more than text; its pictures can still be made
        return [PlannedCell(label, size, len(members), None) for (label, size), members in by_cell.items()]
    return [
        PlannedCell(label, size, len(members), _seconds_of(members[0].request, architecture, seconds))
        for (label, size), members in by_cell.items()
    ]


def _seconds_of(request: Request, architecture: ModelSizes, seconds: tuple[float, float]) -> float | None:
    passes = METHODS[request.method].passes
    if passes is None:
        return None
    settled = settle(request, architecture)[0]
    return sum(_seconds_of_pass(one, settled, *seconds) for one in passes(settled, architecture))


def _seconds_of_pass(one: Pass, request: Request, of_evaluation: float, of_decoding: float) -> float:
    area = one.size[0] * one.size[1]
    if not isinstance(one, Denoising):
        return area * of_decoding
    first, last = one.span
    steps = (one.steps or request.steps) * (last - max(first, 1 - one.strength))
    evaluations = 2 if one.guided else 1
    if one.recipe is not None and one.recipe.noise_damping is not None:
        evaluations += 1
    return max(steps, 1) * evaluations * area * of_evaluation


def _seconds_a_pixel(pipe: Any, prompt: str, architecture: ModelSizes) -> tuple[float, float]:
    """Of one evaluation for one picture, and of one decoding: from native pictures of a few steps."""
    width, height = architecture.native_size
    call = call_arguments(pipe, prompt, None, unguided(pipe, 1.0)) | {"height": height, "width": width}
    _timed(pipe, call | {"num_inference_steps": 1})  # libraries make themselves ready
    few, more = (_timed(pipe, call | {"num_inference_steps": steps}) for steps in (1, 5))
    evaluation = max(more - few, 0.0) / 4
    return evaluation / (width * height), max(few - evaluation, 0.0) / (width * height)


def _timed(pipe: Any, call: dict[str, Any]) -> float:
    began = time.perf_counter()
    pipe(**call, generator=torch.Generator().manual_seed(0))
    return time.perf_counter() - began
