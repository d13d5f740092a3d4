"""What a picture will take: from pictures that were made here, else from its operations and the machine's ceiling."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import log
from typing import Any

import torch

from .._util.memory import readable
from .._util.sizes import ImageSize, ModelSizes
from ..errors import ScaleCrafterError
from ..generation.checks import check_method
from ..generation.generate import settle
from ..generation.timings import KnownPicture, Place, keep_figure, known_figure, known_pictures, place_of
from ..methods.steps.stopwatch import DECODE, DENOISE
from ..models.denoisers import kind_of, lacks_of
from ..models.loading import resolve_device, resolve_dtype
from ..models.schedulers import make_scheduler
from ..request.enlarge_source import source_size
from ..request.methods import methods_for
from ..request.passes import Denoising, size_of
from ..request.request import Request, RequestError
from ..transformer.architecture import TransformerArchitecture
from ..unet.trajectory import table_length
from .ceilings import matrix_product
from .memory import estimate_memory
from .models import CostedModel, costed_model
from .passes import passes_of

OF_CEILING = {"cpu": 0.5, "cuda": 0.4}
"""What a picture reaches of a matrix product's operations a second, where nothing was measured yet."""
QUICKER = "fast"
"""The method that is suggested."""
LONG = 60.0
"""Seconds from which on it is."""
_TRIES = 20
"""Of the matrix product: on a busy machine some are undisturbed."""
Work = Mapping[tuple[str, ImageSize], int]
"""Operations by what is done and at which size."""


@dataclass(frozen=True)
class Cost:
    """What one picture will take."""

    seconds: float | None
    """None where the device cannot be asked."""
    is_measured: bool
    """Whether the seconds come from a picture that was made here, not from operations and the machine's ceiling."""
    flops: int
    """Convolutions, matrix products and attention, a multiplication and an addition being two."""
    memory: int
    """Bytes: on a GPU of its own, else of the whole process."""
    memory_is_measured: bool
    """Whether the memory is that of the same size and method here, not estimated from shapes."""
    quicker: str | None = None
    """A method to take instead of one that takes long."""
    seconds_of_quicker: float | None = None

    def __str__(self) -> str:
        """In words, a line."""
        memory = f"{readable(self.memory)} of memory"
        if self.seconds is None:
            said = f"{_operations(self.flops)} of work; {memory}, estimated"
        elif not self.is_measured:
            said = f"about {in_words(self.seconds)}, estimated from {_operations(self.flops)}; {memory}, estimated"
        elif self.memory_is_measured:
            said = f"about {in_words(self.seconds)} and {memory}, from the last picture here"
        else:
            said = f"about {in_words(self.seconds)}, from the last picture here; {memory}, estimated"
        if self.quicker is not None and self.seconds_of_quicker is not None:
            said += f". Quicker: the method {self.quicker}, about {in_words(self.seconds_of_quicker)}"
        return said

    def as_json(self) -> dict[str, Any]:
        """As the API answers it."""
        return {
            "seconds": self.seconds, "seconds_from": "measured" if self.is_measured else "operations",
            "flops": self.flops, "memory_bytes": self.memory,
            "memory_from": "measured" if self.memory_is_measured else "shapes",
            "quicker_method": self.quicker, "quicker_seconds": self.seconds_of_quicker, "text": str(self),
        }  # fmt: skip


@dataclass(frozen=True)
class _Asked:
    """What is to be made."""

    request: Request
    """Settled."""
    source: ImageSize | None
    """The size of the picture that is enlarged; None where none is."""


class Estimator:
    """Estimates costs; what was counted for one picture serves the next."""

    def __init__(self, outline: Any = None) -> None:
        """Take an outline of the model, or a pipeline that is no longer needed, where it is at hand."""
        self._given = outline
        self._models: dict[str, CostedModel] = {}

    def cost(self, request: Request, source: ImageSize | None = None) -> Cost:
        """What a picture by this request will take, on the device and in the dtype that it names.

        Args:
            request: what is asked.
            source: the size of its image, where the pictures that it names are not at hand; they are not read then.

        Raises:
            RequestError: for a method that does not tell its passes.
            ScaleCrafterError: as `generate`.
        """
        model = self._model(request.model)
        check_method(request, kind_of(model.architecture), lacks_of(model.architecture))
        if request.enlarge is not None and source is None:
            source = source_size(str(request.image))
        settled, size = settle(request, model.architecture, source)
        device = resolve_device(request.device)
        dtype = dtype_for(request, model.architecture, device)
        place = place_of(model.outline, device, dtype)
        try:
            asked = _Asked(settled, source if settled.enlarge is not None else None)
            found = self._cost(model, asked, place, device, dtype)
            return self._with_quicker(found, model, asked, place, device, dtype)
        except ScaleCrafterError:
            raise
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise RequestError(
                f"the work of this model at {size[0]}×{size[1]} cannot be counted ({type(error).__name__}: {error})"
            ) from None

    def _model(self, name: str) -> CostedModel:
        if name not in self._models:
            self._models.clear()
            self._models[name] = costed_model(name, self._given)
        return self._models[name]

    def _cost(self, model: CostedModel, asked: _Asked, place: Place, device: torch.device, dtype: torch.dtype) -> Cost:
        work, request = _work(model, asked), asked.request
        flops = sum(work.values())
        known = _most_like(known_pictures(place), request)
        seconds = None if known is None else _scaled(model, known, work)
        measured = seconds is not None
        if seconds is None:
            ceiling = _ceiling(place, device, dtype)
            seconds = None if ceiling is None else flops / ceiling / OF_CEILING.get(device.type, 0.4)
        if known is not None and known.peak_memory is not None and _is_of(known, request):
            return Cost(seconds, measured, flops, known.peak_memory, True)
        sizes = [size for _, size in work]
        largest = max(sizes, key=lambda size: size.width * size.height, default=model.architecture.native_size)
        memory = estimate_memory(model.outline, largest, dtype)
        for controlnet in model.controlnets(request):
            memory += dtype.itemsize * sum(parameter.numel() for parameter in controlnet.parameters())
        return Cost(seconds, measured, flops, memory, False)

    def _with_quicker(
        self, cost: Cost, model: CostedModel, asked: _Asked, place: Place, device: torch.device, dtype: torch.dtype
    ) -> Cost:
        """The same with the quicker method, where it can be asked for that, and would help."""
        request, architecture = asked.request, model.architecture
        if cost.seconds is None or cost.seconds <= LONG or request.method == QUICKER:
            return cost
        if QUICKER not in methods_for(request.task, kind_of(architecture), lacks_of(architecture)):
            return cost
        with suppress(ScaleCrafterError):  # it follows no control image, for one
            plain = request.changed(method=QUICKER, recipe=None, freeu=False, strength=None)
            other = self._cost(model, replace(asked, request=plain), place, device, dtype)
            if other.seconds is not None and other.seconds < 0.7 * cost.seconds:
                return Cost(
                    cost.seconds, cost.is_measured, cost.flops, cost.memory, cost.memory_is_measured,
                    QUICKER, other.seconds,
                )  # fmt: skip
        return cost


def in_words(seconds: float) -> str:
    """A time as people say it: "40 s", "2 min", "1 h 20 min"."""
    if seconds < 9.5:
        return f"{max(seconds, 0.1):.1f} s" if seconds < 2 else f"{seconds:.0f} s"
    if seconds < 90:
        return f"{round(seconds / 5) * 5} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {round(minutes / 10) * 10} min" if minutes >= 5 and hours < 10 else f"{hours} h"


def _work(model: CostedModel, asked: _Asked) -> Work:
    """The operations of a picture.  An encoding is part of the denoising that follows it."""
    request = asked.request
    scheduler = model.outline.scheduler
    if request.scheduler is not None:
        scheduler = make_scheduler(request.scheduler, scheduler)
    entries = table_length(scheduler, request.steps) / request.steps  # 2 for Heun and its like
    found: dict[tuple[str, ImageSize], int] = defaultdict(int)
    for one in passes_of(request, model.architecture, asked.source):
        flops = model.of_pass(one, request)
        if isinstance(one, Denoising) and not isinstance(model.architecture, TransformerArchitecture):
            flops = round(flops * entries)
        kind = DECODE if type(one).__name__ == "Decoding" else DENOISE
        found[kind, one.size] += flops
    return found


def _most_like(known: list[KnownPicture], request: Request) -> KnownPicture | None:
    """Of the pictures made here the one that tells most: of this size and method, else of the nearest size."""
    size = size_of(request)

    def unlike(picture: KnownPicture) -> tuple[float, bool, bool]:
        made = size_of(picture.request)
        other_size = abs(log(made.width * made.height / (size.width * size.height)))
        return round(other_size, 6), picture.request.method != request.method, picture.request.task != request.task

    return min(known, key=unlike, default=None)  # the newest of those that are as like


def _is_of(known: KnownPicture, request: Request) -> bool:
    same = ("method", "task", "width", "height")
    return not request.controls and all(getattr(known.request, name) == getattr(request, name) for name in same)


def _scaled(model: CostedModel, known: KnownPicture, work: Work) -> float | None:
    """The seconds of this work, at the rates of a picture that was made; None where its own work cannot be counted."""
    try:
        done = _work(model, _Asked(known.request, known.source))
    except (ScaleCrafterError, KeyError):
        return None
    spent: dict[tuple[str, ImageSize], float] = defaultdict(float)
    for part in known.parts:
        spent[part.kind, ImageSize(part.width, part.height)] += part.seconds
    rates = {what: spent[what] / flops for what, flops in done.items() if flops and spent.get(what)}
    if not rates:
        return None
    total = sum(flops * _rate(rates, what) for what, flops in work.items())
    rest = max(known.seconds - sum(spent.values()), 0.0)
    return total + rest


def _rate(rates: Mapping[tuple[str, ImageSize], float], what: tuple[str, ImageSize]) -> float:
    """Seconds an operation: of the same kind if there is one, at the size that is nearest."""
    kind, size = what

    def unlike(other: tuple[str, ImageSize]) -> tuple[bool, float]:
        return other[0] != kind, abs(log(other[1].width * other[1].height / (size.width * size.height)))

    return rates[min(rates, key=unlike)]


def _ceiling(place: Place, device: torch.device, dtype: torch.dtype) -> float | None:
    """Operations a second of a matrix product, measured once; None where the device is full, or not usable."""
    name = f"matrix product, {place.device}, {place.dtype}"
    known = known_figure(name)
    if known is None:
        try:
            known = matrix_product(dtype, device, _TRIES)
        except RuntimeError:
            return None
        keep_figure(name, known)
    return known if known > 0 else None


def dtype_for(request: Request, architecture: ModelSizes, device: torch.device) -> torch.dtype:
    """As `load_pipeline` chooses it."""
    if request.dtype is None and device.type == "cuda" and isinstance(architecture, TransformerArchitecture):
        return torch.bfloat16
    return resolve_dtype(request.dtype, device)


def _operations(flops: int) -> str:
    for power, unit in ((15, "PFLOP"), (12, "TFLOP"), (9, "GFLOP")):
        if flops >= 10**power or unit == "GFLOP":
            value = flops / 10**power
            return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
    raise AssertionError
