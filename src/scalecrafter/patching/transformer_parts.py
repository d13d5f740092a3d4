"""What stands in for parts of a transformer: its embedding of positions, and what its attention asks for queries.

Each acts on what the hook before the transformer's call has set for this thread, and does nothing of its own before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import ModelError
from ..transformer.positions import POSITIONS, PositionChanges
from .per_thread import PerThread


class CallChanges:
    """What a call does."""

    moved: bool = False
    """Whether positions change; a plain value, since torch.compile guards what a graph has read."""
    positions: PositionChanges | None = None
    temperature: float | None = None


class EmbeddingPatch:
    """In the place of an embedding's call: on the instance, with no module replaced, and taken off without a trace."""

    def __init__(self, owner: nn.Module, embedding: Any, kind: str, changes: PerThread[CallChanges]) -> None:
        self._embedding, self._kind, self._changes = embedding, kind, changes
        if kind == "look-up":  # no module: the transformer's attribute itself
            self._holder, self._name = owner, "rope_embedder"
        else:
            self._holder, self._name = embedding, "cropped_pos_embed" if kind == "table" else "forward"
        self._own = self._holder.__dict__.get(self._name)
        self._plain = embedding if kind == "look-up" else getattr(embedding, self._name)

    def put_on(self) -> None:
        """Take its place."""
        self._holder.__dict__[self._name] = self

    def take_off(self) -> None:
        """Leave the holder's attributes as they were; where another one has wrapped this, do nothing from now on."""
        attributes = self._holder.__dict__
        if attributes.get(self._name) is self:
            del attributes[self._name]
            if self._own is not None:
                attributes[self._name] = self._own
        elif attributes.get("_old_forward") is self:  # accelerate's offloading came after us
            attributes["_old_forward"] = self._plain
        self._changes = PerThread(CallChanges)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._changes.now.moved:
            return self._plain(*args, **kwargs)
        return self._changed(*args, **kwargs)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _changed(self, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return POSITIONS[self._kind](self._embedding, self._plain, self._changes.now.positions, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while a copy is being made
            raise AttributeError(name)
        return getattr(self._embedding, name)


class QueryScale:
    """Hooks that multiply the queries of some attention layers."""

    def __init__(self, layers: Iterable[nn.Module], changes: PerThread[CallChanges]) -> None:
        self._layers = list({id(layer): layer for layer in layers}.values())
        self._changes = changes
        self._handles: list[RemovableHandle] = []
        self._sources: list[nn.Module] = []

    def refresh(self) -> None:
        """Hook what makes the queries; a LoRA that is loaded later takes the place of a projection."""
        sources = [source for layer in self._layers for source in _query_sources(layer)]
        if len(sources) == len(self._sources) and all(a is b for a, b in zip(sources, self._sources, strict=True)):
            return
        self.take_off()
        self._sources = sources
        self._handles = [source.register_forward_hook(self._scale) for source in sources]

    def take_off(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._sources = [], []

    def _scale(self, _module: nn.Module, _args: tuple[Any, ...], queries: Tensor) -> Tensor | None:
        temperature = self._changes.now.temperature
        return None if temperature is None else queries * temperature


def _query_sources(layer: Any) -> list[nn.Module]:
    """The last modules that the queries of image and text go through: their norms, or else their projections."""
    sources = []
    for norm, projection in (("norm_q", "to_q"), ("norm_added_q", "add_q_proj")):
        source = getattr(layer, norm, None)
        if source is None and getattr(layer, "fused_projections", False):
            raise ModelError("the projections of this transformer are fused: call unfuse_qkv_projections() first")
        source = getattr(layer, projection, None) if source is None else source
        if source is not None:
            sources.append(source)
    if not sources:
        raise ModelError(f"ScaleCrafter does not know where {type(layer).__name__} makes its queries")
    return sources
