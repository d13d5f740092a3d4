"""Find settings that fit a picture in memory, by trying: each costs time, none changes the picture."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from ..errors import OutOfMemoryError, VaeOutOfMemoryError
from ..methods.steps.denoising import Progress
from ..request.request import Request
from ..vae import AUTO, MemoryBudget, MemoryBudgetError, free_memory, parse_memory_budget, readable
from .generate import Result, generate

LEAST_BUDGET = 64 << 20
"""Below this the VAE's tiles would be so small that something else must be wrong."""


@dataclass(frozen=True)
class Saving:
    """One way to need less memory."""

    name: str
    """As it is reported."""
    use: Callable[[Any], AbstractContextManager[None]]
    """Puts it in force on a pipeline, and takes it off again."""


def generate_auto_fit(
    pipe: Any,
    request: Request,
    progress: Progress | None = None,
    *,
    vae_memory: MemoryBudget = AUTO,
    report: Callable[[str], None] = lambda _line: None,
    least: int = LEAST_BUDGET,
) -> Result:
    """`generate` with the first settings that fit, mildest first; the pipeline is afterwards what it was.

    When the U-Net runs out of memory the next saving is added: chunked attention, then on a GPU models that wait in
    host memory, one by one and then layer by layer.  When the VAE does, its memory budget is halved.

    Args:
        pipe, request, progress, vae_memory: as `generate` takes them.
        report: called with a line about each attempt that did not fit, and about the settings that did.
        least: bytes below which the VAE's budget is not lowered.

    Raises:
        OutOfMemoryError: when nothing fits; says what was tried.
    """
    request = request.changed(seed=request.seed if request.seed is not None else _random_seed())
    savings = savings_for(pipe)
    budget, number = vae_memory, 0
    while True:
        name = savings[number].name + ("" if budget == AUTO else f", VAE below {_in_words(budget)}")
        try:
            with savings[number].use(pipe):
                result = generate(pipe, request, progress, vae_memory=budget)
        except (VaeOutOfMemoryError, MemoryBudgetError) as error:
            lower = None if isinstance(error, MemoryBudgetError) else _lower(budget, pipe, least)
            if lower is None:
                raise OutOfMemoryError(f"nothing fits; the last that was tried was {name}: {error}") from error
            budget = lower
        except OutOfMemoryError as error:
            if number + 1 == len(savings):
                raise OutOfMemoryError(f"nothing fits; the last that was tried was {name}: {error}") from error
            number += 1
        else:
            report(f"fits: {name}")
            return result
        report(f"did not fit: {name}")


def savings_for(pipe: Any) -> list[Saving]:
    """The savings that a pipeline's device knows, mildest first; each includes chunked attention but the first."""
    savings = [
        Saving("settings as they are", lambda _pipe: nullcontext()),
        Saving("chunked attention", chunked_attention),
    ]
    if pipe.device.type != "cpu":
        savings += [
            Saving("chunked attention, models brought in one by one", _offloaded("enable_model_cpu_offload")),
            Saving("chunked attention, layers brought in one by one", _offloaded("enable_sequential_cpu_offload")),
        ]
    return savings


@contextmanager
def chunked_attention(pipe: Any) -> Iterator[None]:
    """Attention of the U-Net head by head, with the processors put back afterwards."""
    if getattr(pipe, "unet", None) is None:  # transformers attend by kernels that store no scores
        yield
        return
    own = dict(pipe.unet.attn_processors)
    pipe.unet.set_attention_slice("max")
    try:
        yield
    finally:
        pipe.unet.set_attn_processor(own)


def _offloaded(method: str) -> Callable[[Any], AbstractContextManager[None]]:
    @contextmanager
    def use(pipe: Any) -> Iterator[None]:
        device = pipe.device
        with chunked_attention(pipe):
            pipe.to("cpu")
            try:
                getattr(pipe, method)(device=device)
                yield
            finally:
                pipe.remove_all_hooks()
                pipe.to(device)

    return use


def _lower(budget: MemoryBudget, pipe: Any, least: int) -> int | None:
    """Half of a budget that did not help; None if that is too little."""
    current = parse_memory_budget(budget)
    if not isinstance(current, int):
        current = free_memory(pipe.device) or 8 << 30
    half = current // 2
    return half if half >= least else None


def _in_words(budget: MemoryBudget) -> str:
    size = parse_memory_budget(budget)
    return readable(size) if isinstance(size, int) else str(budget)


def _random_seed() -> int:
    return secrets.randbelow(2**32)
