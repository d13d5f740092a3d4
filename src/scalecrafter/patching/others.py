"""Whether others act inside of a U-Net's modules, so that leaving out or halving an evaluation could be seen.

Offloading (accelerate), LoRA and IP-Adapter work row by row and keep nothing between calls; hooks, other attention
processors and caches may count calls, keep features or mix the rows of a batch.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_TRANSPARENT = ("torch.", "diffusers.", "accelerate.")
"""Homes of a `forward` that does what the module's own does."""
_OURS = "scalecrafter."
_ROW_BY_ROW = ("Attn", "Fused", "Sliced", "XFormers", "IPAdapter")
"""How the names of diffusers' attention processors begin that treat each row of a batch alone."""


def home(function: Any) -> str:
    """Module and name of the function behind a `forward` or a hook."""
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = function.func
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"


def is_transparent(forward: Any) -> bool:
    """Whether a `forward` is of torch, diffusers or accelerate, which call the module's own."""
    return home(forward).startswith(_TRANSPARENT)


class _Here(threading.local):
    whole = False


_here = _Here()


@contextmanager
def whole_evaluations(pipe: Any = None) -> Iterator[Any]:
    """For the length of a `with` block, in this thread, nothing is shared between evaluations: to compare with."""
    before, _here.whole = _here.whole, True
    try:
        yield pipe
    finally:
        _here.whole = before


def undisturbed(modules: Iterable[nn.Module]) -> bool:
    """Whether nobody else has hooks, attention processors or a `forward` on any of these modules."""
    return not _here.whole and all(map(_undisturbed, modules))


def _undisturbed(module: nn.Module) -> bool:
    state = module.__dict__
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    if any(not home(hook).startswith(_OURS) for hook in hooks):
        return False
    registry = state.get("_diffusers_hook")
    if registry is not None and registry.hooks:
        return False
    if "forward" in state and not home(state["forward"]).startswith((*_TRANSPARENT, _OURS)):
        return False
    processor = state.get("processor") or module._modules.get("processor")
    return processor is None or _is_row_by_row(type(processor))


def _is_row_by_row(processor: type) -> bool:
    if processor.__module__.startswith(_OURS):
        return True
    return processor.__module__.startswith("diffusers.") and processor.__name__.startswith(_ROW_BY_ROW)
