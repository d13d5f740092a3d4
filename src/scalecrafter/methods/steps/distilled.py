"""LoRAs that make a model draw in few steps: which there are, and one of them on a pipeline for the length of a block.

LCM-LoRA (Luo et al. 2023, arXiv 2311.05556) takes consistency steps, in LCMScheduler.  SDXL-Lightning (Lin et al. 2024,
arXiv 2402.13929) and Hyper-SD (Ren et al. 2024, arXiv 2404.13686) take plain steps on a table that begins at its last
entry ("trailing").  All of them have learnt guidance, and run without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEPS = 4
"""Of a LoRA whose name does not say how many."""
_ADAPTER = "scalecrafter_fast"
_IN_A_NAME = re.compile(r"(?<![0-9])([0-9]{1,2})[-_ ]?steps?", re.IGNORECASE)


@dataclass(frozen=True)
class Distillation:
    """How a kind of LoRA is run."""

    scheduler: str
    """A name of `SCHEDULERS`."""
    scheduler_settings: Mapping[str, Any] = field(default_factory=dict)


KINDS: Mapping[str, Distillation] = {
    "lcm": Distillation("lcm"),
    "lightning": Distillation("euler", {"timestep_spacing": "trailing"}),
    "hyper": Distillation("euler", {"timestep_spacing": "trailing"}),
}


def kind_in(name: str) -> str | None:
    """The kind that the name of a LoRA says."""
    lowered = name.lower()
    return next((kind for kind in KINDS if kind in lowered), None)


def steps_in(name: str) -> int | None:
    """The steps that the name of a LoRA says, as "Hyper-SDXL-8steps-lora.safetensors" does."""
    found = _IN_A_NAME.search(name)
    return int(found[1]) or None if found else None


def place_of(lora: str) -> tuple[str, str | None]:
    """Folder or hub id, and the file in it: of a path, "owner/name" or "owner/name:file" (`ModelError`)."""
    from ...errors import ModelError
    from ...models.sources import HUB_ID

    path = Path(lora).expanduser()
    if path.is_file():
        return str(path.parent), path.name
    if path.is_dir():
        return str(path), None
    name, _, file = lora.partition(":")
    if HUB_ID.fullmatch(name):
        return name, file or None
    raise ModelError(f"there is no LoRA {lora!r}: give a .safetensors file, a folder, a hub id, or OWNER/NAME:FILE")


@contextmanager
def distilled(pipe: Any, lora: str | None) -> Iterator[None]:
    """For the length of a `with` block, a LoRA on the pipeline; it is as before then, to the bit.

    Raises:
        ModelError: for a LoRA that cannot be loaded, that changes nothing here, or beside LoRAs of the pipeline's own.
        MissingExtraError: without peft.
    """
    if lora is None:
        yield
        return
    from ..._util.extras import need_extra
    from ...errors import ModelError

    need_extra("a LoRA", "lora")
    if not hasattr(pipe, "load_lora_weights"):
        raise ModelError(f"{type(pipe).__name__} takes no LoRA: leave it out")
    own = sorted({name for names in pipe.get_list_adapters().values() for name in names})
    if own:
        raise ModelError(f"the pipeline has LoRAs already ({', '.join(own)}): unload or fuse them, or leave lora out")
    known = {name: module.__dict__.copy() for name, module in _parts(pipe)}
    try:
        _load(pipe, lora)
        yield
    finally:
        pipe.unload_lora_weights()
        for name, module in _parts(pipe):
            _forget(module, known[name])


def _load(pipe: Any, lora: str) -> None:
    from ...errors import ModelError
    from ...models.loading import quiet
    from ...models.reasons import reason

    where, file = place_of(lora)
    try:
        with quiet():
            pipe.load_lora_weights(where, weight_name=file, adapter_name=_ADAPTER, use_safetensors=True)
    except (
        Exception
    ) as error:  # a file that is none, the hub's errors, shapes that do not fit: peft has its own for each
        raise ModelError(f"cannot use the LoRA {lora!r} on this model: {reason(error)}") from error
    if not any(pipe.get_list_adapters().values()):
        raise ModelError(f"the LoRA {lora!r} has nothing for the layers of this model: it is for another one")


def _parts(pipe: Any) -> list[tuple[str, Any]]:
    """What a LoRA of this pipeline may change."""
    names = getattr(pipe, "_lora_loadable_modules", ())
    return [(name, part) for name in names for part in [getattr(pipe, name, None)] if part is not None]


def _forget(module: Any, before: Mapping[str, Any]) -> None:
    """Take away the attributes that loading left on a part."""
    for name in module.__dict__.keys() - before.keys():
        del module.__dict__[name]
