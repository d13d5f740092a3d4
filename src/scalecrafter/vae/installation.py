"""Put exact tiling on a loaded VAE, and take it off.

The VAE keeps its own methods: only its encoder and decoder get module hooks (`part.py`).  Slicing, quantisation and the
posterior stay diffusers' own.  Offloading can come before or after.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from .._util.memory import AUTO, MemoryBudget, parse_memory_budget
from ..errors import ModelError
from .part import Part
from .planning import TilePlan
from .regions import Size
from .video import VideoCall

_ATTRIBUTE = "_scalecrafter_memory"


def apply_vae_memory(vae: Any, memory: MemoryBudget = AUTO, *, tile: Size | None = None) -> Any:
    """Let a VAE decode and encode within a memory budget: exact tiles, equal to one whole pass but for rounding.

    While it is applied, diffusers' own tiling is off, NaN or infinity that a float16 VAE makes is computed again in a
    wider type, and what stays NaN or infinite is raised.  A second call replaces the first.

    Args:
        vae: AutoencoderKL (also that of FLUX.2), AutoencoderTiny, AutoencoderDC, AutoencoderKLQwenImage or
            AutoencoderKLWan.
        memory: bytes, or a size as "4GiB", that a decode or encode may add to what its device holds already; "auto"
            tiles only what does not fit the free memory, and leaves alone a VAE that it does not know; None or "off"
            only removes.
        tile: (height, width) in image pixels that every section is computed in; by default they are chosen.

    Returns:
        `vae`.

    Raises:
        ScaleCrafterError: for a size that cannot be read.
        ModelError: for a VAE with an unknown layer, unless `memory` is "auto".
    """
    budget = parse_memory_budget(memory)
    installation = None if budget is None else _TiledVae(vae, budget, tile)
    remove_vae_memory(vae)
    if installation is not None:
        installation.install()
    return vae


def remove_vae_memory(vae: Any) -> None:
    """Undo `apply_vae_memory`; does nothing where nothing is applied."""
    installation = _installed(vae)
    if installation is not None:
        installation.remove()


@contextmanager
def vae_memory_applied(vae: Any, memory: MemoryBudget = AUTO, *, tile: Size | None = None) -> Iterator[Any]:
    """`apply_vae_memory` for the length of a `with` block; then the VAE is what it was, exceptions included.

    "auto" leaves a budget in force that is there already.
    """
    with vae_memory_kept(vae):
        if vae is not None and not (has_vae_memory(vae) and memory == AUTO):
            apply_vae_memory(vae, memory, tile=tile)
        yield vae


@contextmanager
def vae_memory_kept(vae: Any) -> Iterator[None]:
    """At the end of a `with` block, exceptions included, the VAE has the memory budget that it had before, or none."""
    before = _installed(vae)
    try:
        yield
    finally:
        if _installed(vae) is not before:
            remove_vae_memory(vae)
            if before is not None:
                before.install()


def has_vae_memory(vae: Any) -> bool:
    """Whether `apply_vae_memory` is in force on a VAE."""
    return _installed(vae) is not None


def check_vae_memory(vae: Any, memory: MemoryBudget) -> None:
    """Raise what `apply_vae_memory` would raise, and change nothing."""
    budget = parse_memory_budget(memory)
    if budget is not None:
        _TiledVae(vae, budget, None)


def decode_memory(
    vae: Any, height: int, width: int, memory: MemoryBudget = AUTO, *, tile: Size | None = None
) -> tuple[int, TilePlan | None]:
    """What decoding one picture of this size in image pixels takes (estimated from shapes).

    Returns:
        Bytes added at the peak of one whole pass, and the tile plan within the budget `memory`, or None where no
        tiles are needed.
    """
    part = Part(vae.decoder, "decoder", parse_memory_budget(memory), tile)
    factor = part.factor
    return part.outlook((1, part.channels, height // factor, width // factor), vae.dtype, vae.device)


def encode_memory(
    vae: Any, height: int, width: int, memory: MemoryBudget = AUTO, *, tile: Size | None = None
) -> tuple[int, TilePlan | None]:
    """What encoding one picture of this size in image pixels takes; see `decode_memory`."""
    part = Part(vae.encoder, "encoder", parse_memory_budget(memory), tile)
    return part.outlook((1, part.channels, height, width), vae.dtype, vae.device)


def _installed(vae: Any) -> _TiledVae | None:
    return vae.__dict__.get(_ATTRIBUTE) if vae is not None else None


class _TiledVae:
    """What `apply_vae_memory` puts on one VAE."""

    def __init__(self, vae: Any, budget: int | str, tile: Size | None) -> None:
        self._vae = vae
        self._parts: list[Part] = []
        self._handles: list[Any] = []
        self._use_tiling: bool | None = None
        self._calls: list[VideoCall] = []
        for name in ("encoder", "decoder"):
            module = getattr(vae, name, None)
            try:
                if not isinstance(module, nn.Module):
                    raise ModelError(
                        f"{type(vae).__name__} has no {name} to run in tiles: leave vae_memory out, or let it be off"
                    )
                self._parts.append(part := Part(module, name, budget, tile))
                if hasattr(vae, "clear_cache"):  # of videos
                    self._calls.append(VideoCall(vae, part, "_encode" if name == "encoder" else "_decode"))
            except ModelError:
                if budget != AUTO:
                    raise

    def install(self) -> None:
        """Put the hooks on, and diffusers' own tiling off."""
        self._handles = [handle for part in self._parts for handle in part.hook()]
        for call in self._calls:
            call.put_on()
        if self._parts and isinstance(self._vae.__dict__.get("use_tiling"), bool):
            self._use_tiling, self._vae.use_tiling = self._vae.use_tiling, False
        self._vae.__dict__[_ATTRIBUTE] = self

    def remove(self) -> None:
        """Take everything off."""
        for handle in self._handles:
            handle.remove()
        for call in self._calls:
            call.take_off()
        for part in self._parts:
            part.restore()
        if self._use_tiling:
            self._vae.use_tiling = True
        del self._vae.__dict__[_ATTRIBUTE]
