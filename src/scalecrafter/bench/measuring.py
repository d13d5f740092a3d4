"""The clock: one step of each kind of each method, in rounds, and a picture put together from the medians."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from torch import Tensor

from .._util.sizes import ImageSize
from ..cost.architectures import BenchModel
from ..cost.ceilings import middle, seconds
from ..cost.flops import FlopCounts
from ..cost.kinds import Step, steps_of
from ..cost.passes import installed
from ..cost.transformers import BenchTransformer, TransformerCounts, steps_run
from ..generation import peak_memory
from ..methods.steps.denoising import decode
from ..models.denoisers import read_model
from ..request.passes import Decoding, Denoising, Encoding, Pass, size_of
from ..request.request import Request
from ..unet.architecture import read_architecture
from ..vae import AUTO, vae_memory_applied
from .peers import Peer
from .rows import Counts, Row, compared, counts_of, passes_of

EAGER = "eager"
"""The mode of a measured row: as the pipeline runs, not compiled."""


@dataclass
class Part:
    """What is timed once a round, and how often a picture has it."""

    name: str
    size: ImageSize
    times: int
    flops: int
    seconds: list[float] = field(default_factory=list)

    def as_row(self) -> dict[str, Any]:
        """For the JSON: the median, the quickest and the slowest."""
        return {
            "part": self.name, "width": self.size.width, "height": self.size.height, "times": self.times,
            "flops": self.flops, "seconds": middle(self.seconds), "quickest": min(self.seconds),
            "slowest": max(self.seconds),
        }  # fmt: skip


class Course(ABC):
    """One method at one size: its parts, in the order in which they are run."""

    def __init__(self, model: Any, method: str, request: Request, counts: Counts, peer: Peer | None = None) -> None:
        self.method, self.request = method, request
        self.peak: int | None = None
        self._model, self._peer = model, peer
        self.passes = passes_of("published" if peer else method, request, read_model(model))
        self.flops = counts.picture(self.passes, request.steps)
        self._steps: dict[int, list[tuple[Part, Callable[[], float]]]] = {}
        self._parts: dict[int, Part] = {}
        for number, one in enumerate(self.passes):
            if isinstance(one, Denoising):
                self._steps[number] = self._steps_of(one, counts)
            else:
                name = "decode" if isinstance(one, Decoding) else "encode"
                self._parts[number] = Part(name, one.size, 1, counts.of_pass(one, request.steps))
        self._file = Part("png", size_of(request), 1, 0)

    @abstractmethod
    def _steps_of(self, one: Denoising, counts: Any) -> list[tuple[Part, Callable[[], float]]]:
        """The kinds of steps of a pass in their order, and what times one while the pass is installed."""

    @abstractmethod
    def _decode(self, size: ImageSize) -> Callable[[], Tensor]:
        """What decodes latents of a picture of this size to `(1, 3, height, width)` in -1…1."""

    @abstractmethod
    def _encode(self, pixels: Tensor) -> None:
        """Take `(1, 3, height, width)` to latents."""

    @property
    def parts(self) -> list[Part]:
        """All of them."""
        steps = [part for group in self._steps.values() for part, _ in group]
        return [*steps, *self._parts.values(), self._file]

    def run(self, over: Callable[[], bool]) -> None:
        """Time every part once; leave when the time is `over`."""
        peak_memory.reset(self._model)
        known = peak_memory.begin(self._model)
        image: Image.Image | None = None
        for number, one in enumerate(self.passes):
            if isinstance(one, Denoising):
                with nullcontext() if self._peer else installed(self._model, one):
                    for part, timed in self._steps[number]:
                        if over():
                            return
                        part.seconds.append(timed())
            elif over():
                return
            else:
                image, spent = self._through_vae(one, image)
                self._parts[number].seconds.append(spent)
        if image is not None:
            self._file.seconds.append(self._time_file(image))
        if known:
            self.peak = max(self.peak or 0, peak_memory.peak(self._model) or 0)

    def row(self) -> Row:
        """What was found; without the picture's seconds where the time was not enough for every part."""
        request = self.request
        row: Row = {
            "architecture": self._model.name, "width": request.width, "height": request.height, "method": self.method,
            "mode": EAGER, "steps": request.steps, "flops": self.flops,
        }  # fmt: skip
        if all(part.seconds for part in self.parts):
            row["seconds"] = sum(part.times * middle(part.seconds) for part in self.parts)
            row["spread"] = [sum(part.times * best(part.seconds) for part in self.parts) for best in (min, max)]
            row["rounds"] = min(len(part.seconds) for part in self.parts)
            row["tflops_per_s"] = self.flops / row["seconds"] / 1e12
        if timed := [part.as_row() for part in self.parts if part.seconds]:
            row["parts"] = timed
        if self.peak is not None:
            row["peak_gib"] = self.peak / 2**30
        return row

    def _through_vae(self, one: Pass, image: Image.Image | None) -> tuple[Image.Image | None, float]:
        model, found = self._model, [image]
        processor = VaeImageProcessor(vae_scale_factor=model.vae_scale_factor)
        decode = self._decode(one.size)

        def decoding() -> None:
            found[0] = processor.postprocess(decode(), output_type="pil")[0]

        def encoding() -> None:
            given = image or Image.new("RGB", one.size)
            pixels = processor.preprocess(given.resize(one.size, Image.Resampling.LANCZOS))
            self._encode(pixels.to(model.device, model.dtype))

        around = getattr(one, "around", None)
        with vae_memory_applied(model.vae, AUTO), nullcontext() if around is None else around(model):
            spent = seconds(encoding if isinstance(one, Encoding) else decoding, model.device)
        return found[0], spent

    def _time_file(self, image: Image.Image) -> float:
        """Enlarging what is not of the picture's size, and writing it as PNG."""
        size = size_of(self.request)

        def work() -> None:
            whole = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
            whole.save(BytesIO(), format="PNG")

        return seconds(work, torch.device("cpu"))


class UnetCourse(Course):
    """On a U-Net, where a pass has steps of several kinds."""

    _model: BenchModel

    def _steps_of(self, one: Denoising, counts: FlopCounts) -> list[tuple[Part, Callable[[], float]]]:
        steps = steps_of(one, read_architecture(self._model), self._model.scheduler, self.request.steps)
        found = _representatives(one, steps, counts, self.request.steps)
        return [(part, partial(self._time_step, one, step)) for part, step in found]

    def _decode(self, size: ImageSize) -> Callable[[], Tensor]:
        latents: Tensor = self._model.latents(size)[:, : self._model.vae.config.latent_channels]
        return lambda: decode(self._model, latents)

    def _encode(self, pixels: Tensor) -> None:
        self._model.vae.encode(pixels)

    def _time_step(self, one: Denoising, step: Step) -> float:
        """As a pipeline takes it: the U-Net, the guidance, the scheduler."""
        model, batch = self._model, 2 if one.guided else 1
        model.scheduler.set_timesteps(one.steps or self.request.steps, device=model.device)
        latents, given = model.latents(one.size), model.conditions(one.size, batch)
        timestep = model.scheduler.timesteps[step.entry]

        def work() -> None:
            with self._peer.on(model.unet, step) if self._peer else nullcontext():
                noise = model.unet(latents.expand(batch, -1, -1, -1), timestep, **given).sample
            if one.guided:
                unconditional, conditional = noise.chunk(2)
                noise = unconditional + self.request.guidance * (conditional - unconditional)
            model.scheduler.step(noise, timestep, latents)

        return seconds(work, model.device)


class TransformerCourse(Course):
    """On a transformer, where all steps of a pass are alike but the first, which makes everything ready."""

    _model: BenchTransformer

    def _steps_of(self, one: Denoising, counts: TransformerCounts) -> list[tuple[Part, Callable[[], float]]]:
        run = steps_run(self._model, one, self.request.steps)
        flops = counts.of_pass(one, self.request.steps) // max(run, 1)
        name = "plain step" if one.recipe is None else "changed step"
        times = [("first step", min(run, 1)), (name, run - 1)]
        timed = partial(self._time_step, one)
        return [(Part(name, one.size, times, flops), timed) for name, times in times if times > 0]

    def _time_step(self, one: Denoising) -> float:
        return seconds(lambda: self._model.evaluate(one.size, one.guided), self._model.device)

    def _decode(self, size: ImageSize) -> Callable[[], Tensor]:
        return lambda: self._model.decode(size)

    def _encode(self, pixels: Tensor) -> None:
        self._model.encode(ImageSize(pixels.shape[-1], pixels.shape[-2]))


@torch.no_grad()
def measured_rows(
    model: BenchModel | BenchTransformer,
    counted: BenchModel | BenchTransformer,
    asked: Sequence[tuple[str, Request]],
    minutes: float,
    rounds: int | None,
    peers: Mapping[str, Peer],
    report: Callable[[str], object],
) -> list[Row]:
    """A row a picture, with its seconds.

    Args:
        model: with weights, on the device.
        counted: the same on the meta device.
        asked: methods and requests; all are timed in every round, each round beginning with another one.
        minutes: when to begin no part more.
        rounds: how often at most; None: as often as there is time.
        peers: other implementations by the name that their rows have; they run the published schedule.
        report: called with what is being done.
    """
    started = time.monotonic()
    counts = counts_of(counted)
    kind = TransformerCourse if isinstance(model, BenchTransformer) else UnetCourse
    courses = [kind(model, method, request, counts, peers.get(method)) for method, request in asked]

    def over() -> bool:
        return time.monotonic() - started > 60 * minutes

    round_ = 0
    while courses and not over() and round_ != rounds:
        for course in _rotated(courses, round_):
            report(f"round {round_ + 1}: {course.method} at {course.request.width}×{course.request.height}")
            course.run(over)
        round_ += 1
    return compared(compared([course.row() for course in courses], "flops"), "seconds")


def _rotated(courses: Sequence[Course], by: int) -> Iterator[Course]:
    by %= len(courses)
    yield from (*courses[by:], *courses[:by])


def _representatives(
    one: Denoising, steps: Sequence[Step], counts: FlopCounts, request_steps: int
) -> list[tuple[Part, Step]]:
    """The first step of a pass, which makes everything ready, and the last one of each kind that follows.

    So the places of a pass go forwards, as in a run, and nothing is made anew in the middle of it.
    """
    kinds: dict[Any, list[Step]] = {}
    for step in steps[1:]:
        kinds.setdefault(step.settings(), []).append(step)
    chosen = [("first", 1, step) for step in steps[:1]]
    chosen += sorted(((_name(group[-1]), len(group), group[-1]) for group in kinds.values()), key=lambda c: c[2].entry)
    return [
        (Part(f"{name} step", one.size, times, counts.of_step(one, step, request_steps)), step)
        for name, times, step in chosen
    ]


def _name(step: Step) -> str:
    if step.strong is not None:
        return "damped"
    return "dispersed" if step.structure.dispersed else "re-dilated" if step.structure.factors else "plain"
