"""Who calls a model: the pipeline whose method runs now, found on the stack.

A model can be in several pipelines (`from_pipe`, SDXL's base and refiner), and no pipeline passes itself on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

Parts = Mapping[str, Any]
"""The attributes of an object that may be a pipeline."""


def calling_pipeline(is_ours: Callable[[Parts], bool]) -> tuple[Any, Mapping[str, Any]]:
    """The nearest method on the stack whose `self` is a pipeline that `is_ours` says yes to.

    Returns:
        That pipeline and the local names of its method; (None, {}) for a loop outside of any pipeline.
    """
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_argcount and code.co_varnames[0] == "self":
            owner = frame.f_locals.get("self")
            parts = {} if isinstance(owner, nn.Module) else getattr(owner, "__dict__", {})
            if "scheduler" in parts and is_ours(parts):
                return owner, frame.f_locals
        frame = frame.f_back  # type: ignore[assignment]
    return None, {}


def is_model(module: Any, model: nn.Module) -> bool:
    """Whether a module is this model, or a wrapper around it (of torch.compile or DistributedDataParallel)."""
    while module is not None and module is not model:
        module = getattr(module, "_orig_mod", None) or getattr(module, "module", None)
    return module is model
