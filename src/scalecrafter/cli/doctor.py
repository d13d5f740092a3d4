"""`scalecrafter doctor`: what is installed, what it runs on, and which sizes are likely to fit."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from .._util.extras import PACKAGES as EXTRAS
from .._util.memory import free_memory, readable, total_memory
from ..cost.memory import estimate_memory
from ..errors import ModelError
from ..models.embedded import EMBEDDED_MODELS
from ..models.sources import locate
from .app import Command, app
from .options import AllowPickle, Config, Model

if TYPE_CHECKING:
    import torch

NEEDED = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "pydantic", "pillow", "numpy")
MULTIPLES = (1, 2, 3, 4, 6, 8)


@app.command("doctor", cls=Command)
def doctor(model: Model = None, config: Config = None, allow_pickle: AllowPickle = False) -> None:
    """Show versions, device and memory, whether the embedded model is there, and which sizes should fit."""
    chosen = model or EMBEDDED_MODELS[0]
    if model is not None:
        locate(model, config)

    import torch

    from .._version import __version__
    from ..models.loading import load_outline, resolve_device

    rows = [("scalecrafter", __version__), ("python", f"{platform.python_version()} on {platform.platform()}")]
    rows += [(package, _version(package) or "missing: install scalecrafter again") for package in NEEDED]
    optional = {name: extra for extra, names in reversed(EXTRAS.items()) for name in names.values()}
    for package, extra in optional.items():
        rows.append((package.lower(), _version(package) or f"not installed (optional: scalecrafter[{extra}])"))
    device = resolve_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    free = free_memory(device) or 0
    memory = f"{readable(free)} free of {readable(total_memory(device) or free)}" if free else "unknown"
    rows += [("device", f"{device} ({name})"), ("memory", memory)]
    for embedded in EMBEDDED_MODELS:
        rows.append((f"model {embedded}", _where(partial(locate, embedded), ModelError)))
    _print(("what", "found"), rows)

    try:
        outline = load_outline(chosen, config=config, allow_pickle=allow_pickle)
    except ModelError as error:
        if model is not None:
            raise
        print(f"sizes: unknown, since {error}")
        return
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    sizes = []
    for multiple, (width, height), needed in estimates(outline, dtype):
        verdict = "fits" if needed < 0.8 * free else "tight" if needed < free else "does not fit"
        sizes.append((f"{width}×{height}", f"{multiple}× the side", readable(needed), verdict))
    print(f"\nMemory of {chosen} by size, {str(dtype).removeprefix('torch.')}, on {device} (estimated, not measured):")
    _print(("size", "native", "about", "free memory"), sizes)


def estimates(outline: object, dtype: torch.dtype) -> list[tuple[int, tuple[int, int], int]]:
    """(multiple of the native side, (width, height), bytes) for a row of sizes that a model can make."""
    from ..models.denoisers import read_model

    architecture = read_model(outline)
    found = []
    for multiple in MULTIPLES:
        size = (architecture.native_size.width * multiple, architecture.native_size.height * multiple)
        found.append((multiple, size, estimate_memory(outline, size, dtype)))
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _where(find: Callable[[], tuple[str, str]], missing: type[Exception]) -> str:
    try:
        return find()[1]
    except missing as error:
        return str(error)


def _print(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table, markup=False, soft_wrap=False)
