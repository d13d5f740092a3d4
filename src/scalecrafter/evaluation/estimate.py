"""What a run will make, and about how long that takes, before it begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..generation.generate import settle
from ..request.methods import METHODS
from ..request.passes import Denoising, Pass
from ..request.request import Request
from ..unet.architecture import Architecture, read_architecture
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
    """What is to be made, with an estimate of its time from one step and one decoding at the native size.

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
    architecture = read_architecture(pipe)
    try:
        seconds = _seconds_a_pixel(pipe, architecture)
    except (RuntimeError, TypeError, ValueError):  # a U-Net that wants more than text; its pictures can still be made
        return [PlannedCell(label, size, len(members), None) for (label, size), members in by_cell.items()]
    return [
        PlannedCell(label, size, len(members), _seconds_of(members[0].request, architecture, seconds))
        for (label, size), members in by_cell.items()
    ]


def _seconds_of(request: Request, architecture: Architecture, seconds: tuple[float, float]) -> float | None:
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


@torch.no_grad()
def _seconds_a_pixel(pipe: Any, architecture: Architecture) -> tuple[float, float]:
    """Of one evaluation of the U-Net for one picture, and of one decoding; the second of two calls counts."""
    unet, vae = pipe.unet, pipe.vae
    height, width = architecture.native_height, architecture.native_width
    generator = torch.Generator("cpu").manual_seed(0)
    latents = torch.randn((1, unet.config.in_channels, height, width), generator=generator)
    text = torch.zeros((1, 77, unet.config.cross_attention_dim or 1))
    latents, text = (tensor.to(unet.device, unet.dtype) for tensor in (latents, text))
    call: dict[str, Any] = {"encoder_hidden_states": text}
    if getattr(unet.config, "addition_embed_type", None) == "text_time":
        pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        call["added_cond_kwargs"] = {"text_embeds": text.new_zeros(1, pooled), "time_ids": text.new_zeros(1, 6)}
    decoded = latents[:, : vae.config.latent_channels].to(vae.dtype)
    pixels = height * width * architecture.pixel_factor**2
    return _timed(lambda: unet(latents, 500, **call)) / pixels, _timed(lambda: vae.decode(decoded)) / pixels


def _timed(call: Any) -> float:
    call()
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began
