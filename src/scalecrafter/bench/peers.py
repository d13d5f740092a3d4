"""Other implementations, from a checkout of the user's, to be timed beside ours."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from .._util.sizes import Factors
from ..cost.kinds import Step
from ..errors import ScaleCrafterError


class Peer(Protocol):
    """Another implementation of the published schedule."""

    def on(self, unet: nn.Module, step: Step) -> Any:
        """A context manager: for its length, the U-Net does what it does at this step."""


class PublishedProcessors:
    """The convolution processors of the public code (github.com/YingqingHe/ScaleCrafter), put on at each call."""

    def __init__(self, processor: Callable[[nn.Module, float], Any]) -> None:
        """Take its `ReDilateConvProcessor`, which is called with a convolution and a factor."""
        self._processor = processor

    @contextmanager
    def on(self, unet: nn.Module, step: Step) -> Iterator[None]:
        """As its pipeline does: every named module is looked at, and taken back after the call."""
        if step.structure.dispersed:
            raise ScaleCrafterError("the published processors are timed without dispersion: leave its recipe out")
        before: dict[nn.Module, Any] = {}
        for name, module in unet.named_modules():
            if name in step.structure.factors:
                before[module] = module.__dict__.get("forward")
                module.__dict__["forward"] = self._processor(module, _square(step.structure.factors[name]))
        try:
            yield
        finally:
            for module, own in before.items():
                del module.__dict__["forward"]
                if own is not None:
                    module.__dict__["forward"] = own


def open_peer(text: str) -> tuple[str, Peer]:
    """The peer that "NAME=CHECKOUT" means (`ScaleCrafterError`).  Code of the checkout is run: it is the user's."""
    name, separator, place = text.partition("=")
    file = Path(place).expanduser() / "model.py"
    if not (separator and name.strip()) or not file.is_file():
        raise ScaleCrafterError(
            f"--peer is NAME=CHECKOUT, a checkout of github.com/YingqingHe/ScaleCrafter with its model.py, not {text!r}"
        )
    specification = importlib.util.spec_from_file_location("scalecrafter_peer", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
        processor = module.ReDilateConvProcessor
    except (ImportError, AttributeError) as error:
        raise ScaleCrafterError(f"the peer {name!r} cannot be used: {error}") from error
    return name.strip(), PublishedProcessors(processor)


def _square(factors: Factors) -> float:
    vertical, horizontal = factors
    if vertical != horizontal:
        raise ScaleCrafterError("the published processors take one factor for both axes: time them at square sizes")
    return vertical
