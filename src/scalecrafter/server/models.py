"""The models that a worker holds in memory: those that it used last."""

from __future__ import annotations

import gc
from collections import OrderedDict
from typing import Any

from .._util.sizes import ModelSizes
from ..errors import ModelError
from ..models.denoisers import kind_of, lacks_of, read_model
from ..models.loading import load_outline, load_pipeline
from ..models.sources import locate
from .records import ModelFacts
from .settings import ServerSettings


class Models:
    """Pipelines by public name, loaded when they are first needed."""

    def __init__(self, settings: ServerSettings, device: str) -> None:
        self._settings, self._device = settings, device
        self._loaded: OrderedDict[str, Any] = OrderedDict()

    def check(self) -> None:
        """Raise `ModelError` for a missing model, without reading weights."""
        for where in self._settings.models.values():
            locate(where)

    def get(self, name: str) -> Any:
        """The pipeline of that name (`ModelError`)."""
        if name not in self._settings.models:
            raise ModelError(f"the model {name!r} is no longer served: ask for another")
        pipe = self._loaded.pop(name, None)
        if pipe is None:
            while len(self._loaded) >= self._settings.loaded:
                self._loaded.popitem(last=False)
                gc.collect()  # a pipeline is full of cycles, and its memory is wanted now
            pipe = load_pipeline(self._settings.models[name], dtype=self._settings.dtype, device=self._device)
        self._loaded[name] = pipe
        return pipe

    def facts(self, name: str) -> ModelFacts | None:
        """The facts of a model; None if its weights would have to be read for them."""
        if name in self._loaded:
            return facts_of(read_model(self._loaded[name]))
        where = self._settings.models[name]
        return facts_of(read_model(load_outline(where))) if locate(where)[0] == "folder" else None


def facts_of(architecture: ModelSizes) -> ModelFacts:
    """The facts of an architecture; the size as in `generation.generate.settle`."""
    return ModelFacts(
        size_multiple=architecture.size_multiple,
        width=architecture.default_size.width,
        height=architecture.default_size.height,
        guidance=getattr(architecture, "guidance", None),
        kind=kind_of(architecture),
        family=getattr(architecture, "family", "any"),
        lacks=tuple(sorted(lacks_of(architecture))),
    )
