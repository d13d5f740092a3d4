"""`scalecrafter doctor`: what is installed, what it runs on, and which sizes are likely to fit."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.table import Table

from .app import app
from .memory_estimate import GIB, available_memory, estimate_memory
from .options import AllowPickle, Config, Model

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "pydantic", "pillow", "numpy")
EXTRAS = {"scipy": "mat", "matplotlib": "plot", "torchsde": "sde", "peft": "dev"}
MULTIPLES = (1, 2, 3, 4, 6, 8)


@app.command("doctor")
def doctor(model: Model = None, config: Config = None, allow_pickle: AllowPickle = False) -> None:
    """Show versions, device and memory, whether the embedded model is there, and which sizes should fit."""
    import torch

    from .._version import __version__
    from ..errors import ModelError
    from ..models.embedded import EMBEDDED_MODELS
    from ..models.loading import load_outline, locate, resolve_device

    rows = [("scalecrafter", __version__), ("python", f"{platform.python_version()} on {platform.platform()}")]
    rows += [(package, _version(package) or "missing: install scalecrafter again") for package in PACKAGES]
    for package, extra in EXTRAS.items():
        rows.append((package, _version(package) or f"not installed (optional: scalecrafter[{extra}])"))
    device = resolve_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    free, total = available_memory(device)
    rows += [("device", f"{device} ({name})"), ("memory", f"{free / GIB:.1f} GiB free of {total / GIB:.1f} GiB")]
    for embedded in EMBEDDED_MODELS:
        rows.append((f"model {embedded}", _where(partial(locate, embedded), ModelError)))
    _print(("what", "found"), rows)

    chosen = model or EMBEDDED_MODELS[0]
    try:
        outline = load_outline(chosen, config=config, allow_pickle=allow_pickle)
    except ModelError as error:
        if model is not None:
            raise
        print(f"sizes: unknown, since {error}")
        return
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    sizes = []
    for multiple, (width, height), needed in estimates(outline, dtype.itemsize):
        verdict = "fits" if needed < 0.8 * free else "tight" if needed < free else "does not fit"
        sizes.append((f"{width}×{height}", f"{multiple}× the side", f"{needed / GIB:.1f} GiB", verdict))
    print(f"\nMemory of {chosen} by size, {str(dtype).removeprefix('torch.')}, on {device} (estimated, not measured):")
    _print(("size", "native", "about", "free memory"), sizes)


def estimates(outline: object, item_size: int) -> list[tuple[int, tuple[int, int], int]]:
    """(multiple of the native side, (width, height), bytes) for a row of sizes that a model can make."""
    from ..unet.architecture import read_architecture

    architecture = read_architecture(outline)
    native = (
        architecture.native_width * architecture.pixel_factor,
        architecture.native_height * architecture.pixel_factor,
    )
    found = []
    for multiple in MULTIPLES:
        size = (native[0] * multiple, native[1] * multiple)
        found.append((multiple, size, estimate_memory(outline, size, item_size)))
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
