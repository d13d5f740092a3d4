"""Floating-point operations of a picture, counted on the meta device: in seconds, and without weights.

Convolutions, matrix products and attention count, as `torch.utils.flop_counter` has them; a multiplication and an
addition are two.  The rest is small: text encoders, normalisation, resizing, the scheduler.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from .._util.sizes import ImageSize
from ..request.passes import Decoding, Denoising, Encoding, Pass
from ..unet.architecture import read_architecture
from .architectures import BenchModel
from .counting import counted
from .kinds import Step, steps_of
from .passes import installed


class FlopCounts:
    """Counts for one model; what was counted once is kept."""

    def __init__(self, model: BenchModel) -> None:
        """Count for a model on the meta device."""
        self._model = model
        self._architecture = read_architecture(model)
        self._known: dict[Hashable, int] = {}

    def picture(self, passes: Iterable[Pass], steps: int) -> int:
        """All passes of a picture, `steps` being those of the request."""
        return sum(self.of_pass(one, steps) for one in passes)

    def of_pass(self, one: Pass, steps: int) -> int:
        """One pass, all of its steps."""
        if not isinstance(one, Denoising):
            return self._once((type(one), one.size, one.around), lambda: self._through_vae(one))
        kinds = Counter[Hashable]()
        examples: dict[Hashable, Step] = {}
        for step in steps_of(one, self._architecture, self._model.scheduler, steps):
            kinds[step.operations()] += 1
            examples.setdefault(step.operations(), step)
        return sum(number * self.of_step(one, examples[kind], steps) for kind, number in kinds.items())

    def of_step(self, one: Denoising, step: Step, steps: int) -> int:
        """One step of a pass: a guided step is two half-batches, a damped one has the strong denoiser's as well."""
        where = None if one.around is None else one.span  # what is around may depend on the place
        key = (one.size, one.guided, one.around, where, step.operations())
        return self._once(key, lambda: self._evaluation(one, step.entry, one.steps or steps))

    def of_controlnet(self, controlnet: Any, one: Denoising, steps: int) -> int:
        """What a ControlNet on the meta device adds to a pass: an evaluation a step, of both halves of the guidance."""
        model, batch = self._model, 2 if one.guided else 1

        def evaluate() -> None:
            latents = model.latents(one.size, batch)[:, : controlnet.config.in_channels]
            followed = torch.empty(batch, 3, one.size.height, one.size.width, device="meta", dtype=model.dtype)
            controlnet(latents, 1, controlnet_cond=followed, **model.conditions(one.size, batch))

        run = steps_of(replace(one, recipe=None), self._architecture, model.scheduler, steps)
        return len(run) * self._once((controlnet, one.size, one.guided), lambda: counted(evaluate))

    def half_batch(self, size: ImageSize) -> int:
        """One evaluation of the plain U-Net for one picture."""
        return self.of_pass(Denoising(size, guided=False), steps=1)

    def _once(self, key: Hashable, count: Callable[[], int]) -> int:
        if key not in self._known:
            self._known[key] = count()
        return self._known[key]

    def _evaluation(self, one: Denoising, entry: int, steps: int) -> int:
        model, batch = self._model, 2 if one.guided else 1
        model.scheduler.set_timesteps(steps)
        with installed(model, one):
            return counted(
                lambda: model.unet(
                    model.latents(one.size, batch),
                    model.scheduler.timesteps[entry],
                    **model.conditions(one.size, batch),
                ),
                model.unet,
            )

    def _through_vae(self, one: Decoding | Encoding) -> int:
        """In one piece.  Tiles compute the same attention once, and a little of the convolutions twice."""
        model = self._model
        with nullcontext() if one.around is None else one.around(model):
            return self._through_whole_vae(model, one)

    def _through_whole_vae(self, model: BenchModel, one: Decoding | Encoding) -> int:
        if isinstance(one, Decoding):
            latents = model.latents(one.size)[:, : model.vae.config.latent_channels]
            return counted(lambda: model.vae.decode(latents))
        pixels = torch.empty(1, 3, one.size.height, one.size.width, device="meta", dtype=model.dtype)
        return counted(lambda: model.vae.encoder(pixels))
