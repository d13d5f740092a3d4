"""Settings under which a picture fits in memory, found by trying: each one costs time, none changes the picture."""

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

LEAST_CEILING = 64 << 20
"""Below this the VAE's tiles would be so small that something else must be wrong."""


@dataclass(frozen=True)
class Saving:
    """One way to need less memory."""

    name: str
    """As it is reported."""
    use: Callable[[Any], AbstractContextManager[None]]
    """Puts it in force on a pipeline, and takes it off again."""


def generate_fitting(
    pipe: Any,
    request: Request,
    progress: Progress | None = None,
    *,
    vae_memory: MemoryBudget = AUTO,
    report: Callable[[str], None] = lambda _line: None,
    least: int = LEAST_CEILING,
) -> Result:
    """`generate` with the first settings that fit, mildest first; the pipeline is afterwards what it was.

    When the U-Net runs out of memory the next saving is added: chunked attention, then on a GPU models that wait in
    host memory, one by one and then layer by layer.  When the VAE does, its ceiling is halved.

    Args:
        pipe, request, progress, vae_memory: as `generate` takes them.
        report: called with a line about each attempt that did not fit, and about the settings that did.
        least: bytes below which the ceiling of the VAE is not lowered.

    Raises:
        OutOfMemoryError: when nothing fits; says what was tried.
    """
    request = request.changed(seed=request.seed if request.seed is not None else _drawn_seed())
    savings = savings_for(pipe)
    ceiling, number = vae_memory, 0
    while True:
        name = savings[number].name + ("" if ceiling == AUTO else f", VAE below {_told(ceiling)}")
        try:
            with savings[number].use(pipe):
                result = generate(pipe, request, progress, vae_memory=ceiling)
        except (VaeOutOfMemoryError, MemoryBudgetError) as error:
            lower = None if isinstance(error, MemoryBudgetError) else _lower(ceiling, pipe, least)
            if lower is None:
                raise OutOfMemoryError(f"nothing fits; the last that was tried was {name}: {error}") from error
            ceiling = lower
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


def _lower(ceiling: MemoryBudget, pipe: Any, least: int) -> int | None:
    """Half of a ceiling that did not help; None where there is no sense in less."""
    current = parse_memory_budget(ceiling)
    if not isinstance(current, int):
        current = free_memory(pipe.device) or 8 << 30
    half = current // 2
    return half if half >= least else None


def _told(ceiling: MemoryBudget) -> str:
    size = parse_memory_budget(ceiling)
    return readable(size) if isinstance(size, int) else str(ceiling)


def _drawn_seed() -> int:
    return secrets.randbelow(2**32)
