"""`scalecrafter bench`: what pictures cost, counted or measured, method beside method."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._util.files import check_writable, write_whole
from .._util.sizes import ImageSize
from ..request.methods import METHODS
from ..request.request import Request, RequestError
from ..request.text import parse_size
from .app import app
from .output import Reporter

if TYPE_CHECKING:
    from ..bench.peers import Peer
    from ..cost.architectures import BenchModel
    from ..cost.transformers import BenchTransformer

COUNTED_BY_DEFAULT = "sdxl"
MEASURED_BY_DEFAULT = "critters"


@app.command("bench")
def bench(
    architecture: Annotated[
        list[str] | None,
        typer.Option(
            "--architecture",
            "-a",
            help="sdxl, sd21, sd15, sd15-half, flux, qwen-image (random weights), or a model as --model takes it; "
            "repeatable. "
            f"(default: {COUNTED_BY_DEFAULT} with --flops, else {MEASURED_BY_DEFAULT})",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            "--size", "-s", metavar="WxH", help="Image pixels; repeatable. (default: native, twice and four times that)"
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help=f"published, {', '.join(METHODS)}; repeatable. (default: all)"),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Steps of denoising; the published settings have 50.")] = 50,
    flops: Annotated[
        bool, typer.Option("--flops", help="Count operations only: in seconds, without weights or a GPU.")
    ] = False,
    minutes: Annotated[float, typer.Option("--minutes", min=0.0, help="When measuring ends.")] = 10.0,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="Measure so many times at most.")] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer", metavar="NAME=CHECKOUT", help="A checkout of the public code, to be measured beside; repeatable."
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="fp32, fp16 or bf16. (default: bf16 on CUDA, else fp32)")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps. (default: auto)")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the rows to this .json file.")] = None,
) -> None:
    """What a picture costs: operations, seconds and memory, for every method, beside the machine's ceilings.

    A row is a picture: all steps, the VAE, the file. Seconds are put together from the medians of each kind of step.
    """
    if output is not None:
        if output.suffix != ".json":
            raise RequestError(f"the rows are written as JSON: let {str(output)!r} end in .json")
        check_writable(output.parent)
    if flops and peer:
        raise RequestError("with --flops nothing is run, so there is no peer to run beside")
    sizes = [ImageSize(*parse_size(text)) for text in size or []]
    names = architecture or [COUNTED_BY_DEFAULT if flops else MEASURED_BY_DEFAULT]

    from ..bench.peers import open_peer
    from ..bench.rows import table, versions

    peers = dict(open_peer(text) for text in peer or [])
    methods = method or []
    found: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "versions": dict(versions())}
    with Reporter() as reporter:
        if flops:
            found |= _count(names, sizes, methods, steps, reporter)
        else:
            found |= _measure(names, sizes, methods, steps, peers, (minutes, rounds), dtype, device, reporter)
    print(f"{found['date']}, {found['device']}, {found['dtype']}, torch {found['versions'].get('torch')}")
    if found["ceilings"]:
        print(_ceilings(found["ceilings"]))
    print(table(found["rows"]))
    if output is not None:
        write_whole(output, lambda file: file.write((json.dumps(found, indent=2) + "\n").encode()))


def _count(
    names: list[str], sizes: list[ImageSize], methods: list[str], steps: int, reporter: Reporter
) -> dict[str, Any]:
    from ..bench.rows import counted_rows
    from ..cost.architectures import outline

    rows = []
    for name in names:
        with reporter.working(f"counting {name}"):
            model = outline(name)
            rows += counted_rows(model, _asked(model, sizes, methods, steps))
    return {"device": "meta", "dtype": "any", "ceilings": {}, "rows": rows}


def _measure(
    names: list[str],
    sizes: list[ImageSize],
    methods: list[str],
    steps: int,
    peers: dict[str, Peer],
    limits: tuple[float, int | None],
    dtype: str | None,
    device: str | None,
    reporter: Reporter,
) -> dict[str, Any]:
    import torch

    from ..bench.measuring import measured_rows
    from ..cost.architectures import outline, ready
    from ..cost.ceilings import ceilings, head_widths
    from ..models.denoisers import denoiser_of
    from ..models.loading import resolve_device, resolve_dtype

    place = resolve_device(device)
    precision = torch.bfloat16 if dtype is None and place.type == "cuda" else resolve_dtype(dtype, place)
    outlines = {name: outline(name) for name in names}
    with reporter.working("measuring the ceilings"):
        widths = sorted({width for model in outlines.values() for width in head_widths(denoiser_of(model))})
        best = ceilings(widths, precision, place)
    rows, (minutes, rounds) = [], limits
    for name, counted in outlines.items():
        asked = _asked(counted, sizes, methods, steps, peers)
        with reporter.working(f"making {name} ready") as tell:
            model = ready(name, precision, place)
            rows += measured_rows(model, counted, asked, minutes / len(names), rounds, peers, tell)
    for row in rows:
        if "tflops_per_s" in row:
            row["of_ceiling"] = row["tflops_per_s"] / best["matrix_product_tflops_per_s"]
        else:
            reporter.note(f"{row['method']} at {row['width']}×{row['height']}: no seconds, the time was up (--minutes)")
    return {
        "device": _machine(place), "dtype": str(precision).removeprefix("torch."), "ceilings": best, "rows": rows,
    }  # fmt: skip


def _asked(
    model: BenchModel | BenchTransformer,
    sizes: list[ImageSize],
    methods: list[str],
    steps: int,
    peers: dict[str, Peer] | None = None,
) -> list[tuple[str, Request]]:
    from ..bench.rows import default_sizes, methods_on, requests
    from ..models.denoisers import read_model

    named = [*(methods or methods_on(read_model(model))), *(peers or {})]
    return requests(model.name, sizes or default_sizes(model), named, steps, peers or {})


def _machine(device: Any) -> str:
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type}, {torch.get_num_threads()} threads"


def _ceilings(found: dict[str, Any]) -> str:
    attention = ", ".join(f"{speed:.2f} at width {width}" for width, speed in found["attention_tflops_per_s"].items())
    return (
        f"ceilings: matrix product {found['matrix_product_tflops_per_s']:.2f} TFLOP/s, "
        f"copy {found['copy_gb_per_s']:.0f} GB/s, attention {attention} (TFLOP/s)"
    )
