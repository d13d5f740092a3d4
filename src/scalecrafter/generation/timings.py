"""What pictures took on this machine: one small file each in the user's cache, for the cost of those to come.

A file holds no prompt, and names no file.  There is one for each method, task and size, of the last such picture, and
nothing here fails: where the cache cannot be written or read, the next picture's cost is estimated from its operations.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from .._util.files import write_whole
from .._util.sizes import ImageSize
from ..errors import UnwritableError
from ..methods.steps.stopwatch import PartTime
from ..models.denoisers import denoiser_of
from ..request.enlarge_source import source_size
from ..request.methods import MethodSettings
from ..request.request import Request

CACHE = "SCALECRAFTER_CACHE"
"""The environment variable that names another folder."""
_MOST = 64
"""Files of one place; the oldest go."""
_PAUSE = 2.0
"""Seconds before this process writes the same file again: quick pictures need not wait for the disk."""
_written: dict[Path, float] = {}


class KnownPart(BaseModel):
    """A `PartTime` in a file."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["denoise", "decode"]
    width: int
    height: int
    seconds: float


class KnownPicture(BaseModel):
    """What one picture took."""

    model_config = ConfigDict(frozen=True)

    request: Request
    """Settled, as `remember` keeps it."""
    source: ImageSize | None = None
    """The size of the picture that was enlarged."""
    parts: tuple[KnownPart, ...]
    seconds: float
    peak_memory: int | None = None
    """Bytes, where they are this picture's own."""
    made: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class Place:
    """Where pictures take about as long: a device, a dtype, an architecture."""

    device: str
    dtype: str
    architecture: str

    @property
    def folder(self) -> Path | None:
        """Of its files."""
        base = cache_folder()
        return None if base is None else base / "pictures" / _digest(self.device, self.dtype, self.architecture)


def cache_folder() -> Path | None:
    """Where this package keeps what it measured; None where there is no home."""
    named = os.environ.get(CACHE)
    if named:
        return Path(named)
    try:
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(base) / "scalecrafter"


def device_name(device: torch.device) -> str:
    """The device and, for a CPU, its machine and the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = f" {torch.get_num_threads()}" if device.type == "cpu" else ""
    return f"{device.type} {platform.machine()} {platform.node()}{threads}"


def place_of(model: Any, device: torch.device, dtype: torch.dtype) -> Place:
    """The place of a pipeline, or of an outline that has the same modules on the meta device."""
    return place_at(architecture_digest(model), device, dtype)


def place_at(architecture: str, device: torch.device, dtype: torch.dtype) -> Place:
    """The place of a model whose `architecture_digest` is known."""
    return Place(device_name(device), str(dtype).removeprefix("torch."), architecture)


def architecture_digest(model: Any) -> str:
    """Of a pipeline, or an outline: alike where denoiser and VAE are."""
    parts = [denoiser_of(model), getattr(model, "vae", None)]
    told = [[type(part).__name__, _config(part)] for part in parts if part is not None]
    return _digest(json.dumps(told, sort_keys=True, default=str))


def remember(
    pipe: Any, requests: Sequence[Request], parts: Sequence[PartTime], seconds: float, peak: int | None
) -> None:
    """Keep what pictures of one call took, each; never fails.

    Args:
        pipe: that made them.
        requests: settled; those with ControlNets or a LoRA, which are files, are not kept.
        parts: of all of them together.
        seconds: of one.
        peak: bytes, if they are these pictures' own.
    """
    request = requests[0]
    with suppress(Exception):  # a picture that is made is worth more than its time
        folder = place_of(pipe, pipe.device, denoiser_of(pipe).dtype).folder
        if folder is None or request.controls or _names_files(request.settings):
            return
        path = folder / f"{_digest(request.method, request.task, request.width, request.height)}.json"
        if time.monotonic() - _written.get(path, -_PAUSE) < _PAUSE:
            return
        known = KnownPicture(
            request=_without_names(request),
            source=source_size(str(request.image)) if request.enlarge is not None else None,
            parts=tuple(
                KnownPart(
                    kind=part.kind, width=part.size.width, height=part.size.height,
                    seconds=part.seconds / len(requests),
                )
                for part in parts
            ),
            seconds=seconds, peak_memory=peak, made=time.time(),
        )  # fmt: skip
        write_whole(path, known.model_dump_json(exclude_none=True))
        _written[path] = time.monotonic()
        _remove_oldest(folder)


def _names_files(settings: MethodSettings | None) -> bool:
    return settings is not None and any(getattr(settings, name) is not None for name in settings.not_from_clients)


def _without_names(request: Request) -> Request:
    """What a picture's time depends on: whether it had a prompt, an image and a mask, but not which."""

    def known(name: str | None) -> str | None:
        return "known" if name else name

    return request.changed(
        prompt=known(request.prompt), negative="", seed=None, model=Request.model_fields["model"].default,
        image=known(request.image), mask=known(request.mask),
    )  # fmt: skip


def settings_key(request: Request) -> str:
    """Equal for settled requests whose pictures take equally long in one place."""
    return _without_names(request).model_dump_json(exclude={"device", "dtype"})


def known_pictures(place: Place) -> list[KnownPicture]:
    """What is known of a place, the newest first; files that cannot be read count for nothing."""
    found, folder = [], place.folder
    with suppress(OSError):
        for path in sorted(folder.glob("*.json") if folder is not None else ()):
            with suppress(OSError, ValidationError, UnicodeError):
                found.append(KnownPicture.model_validate_json(path.read_bytes()))
    return sorted(found, key=lambda picture: picture.made, reverse=True)


def keep_figure(name: str, value: float) -> None:
    """Keep a number that took time to find; never fails."""
    folder = cache_folder()
    if folder is not None:
        with suppress(UnwritableError):
            write_whole(folder / "figures" / f"{_digest(name)}.json", json.dumps({"name": name, "value": value}))


def known_figure(name: str) -> float | None:
    """A number that `keep_figure` kept."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        kept = json.loads((folder / "figures" / f"{_digest(name)}.json").read_text("utf-8"))
        return float(kept["value"]) if kept["name"] == name else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in files[: max(len(files) - _MOST, 0)]:
        path.unlink(missing_ok=True)


def _config(module: Any) -> dict[str, Any]:
    """What a module was made with, without where it came from."""
    return {name: value for name, value in dict(module.config).items() if not name.startswith("_")}


def _digest(*values: object) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:20]
