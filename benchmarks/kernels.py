"""The kernels that the time goes into: dilated convolutions and attention, in all the ways that torch has.

    python -m benchmarks.kernels -o kernels.json              # a GPU: some minutes; SDXL's and SD 1.5's shapes
    python -m benchmarks.kernels --tiny                       # a CPU: seconds; small shapes, to see that it runs

Convolutions: 3×3 kernels with dilation 1 to 4, NCHW and channels-last, `cudnn.benchmark` off and on; and dilation d as
d² dense convolutions on the phases of the feature map, with the time of taking it apart and putting it together.
Attention: every backend of scaled dot-product attention that takes the shape.  Ceilings: a matrix product and a copy.
Each figure is the median of a few after a warm-up.  A shape that does not run has a reason in its place.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from scalecrafter.cost.ceilings import ceilings, seconds

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
CONVOLUTIONS = {
    "SDXL at 4096², finest": (2, 320, 320, 512),
    "SDXL at 4096², middle": (2, 640, 640, 256),
    "SDXL at 4096², deepest": (2, 1280, 1280, 128),
    "SD 1.5 at 2048², finest": (2, 320, 320, 256),
    "SD 1.5 at 2048², second": (2, 640, 640, 128),
    "SD 1.5 at 2048², third": (2, 1280, 1280, 64),
    "SD 1.5 at 2048², deepest": (2, 1280, 1280, 32),
}
"""(batch, channels in, channels out, side)"""
ATTENTIONS = {
    "SDXL at 4096², middle": (2, 10, 65536, 64),
    "SDXL at 4096², deepest": (2, 20, 16384, 64),
    "SD 1.5 at 2048², finest": (2, 8, 65536, 40),
    "VAE at 2048²": (1, 1, 65536, 512),
}
"""(batch, heads, tokens, head width)"""
TINY_CONVOLUTIONS = {"tiny": (2, 32, 32, 48)}
TINY_ATTENTIONS = {"tiny": (2, 2, 256, 40)}
DILATIONS = (1, 2, 3, 4)
LARGEST_SCORES = 8 << 30
"""Bytes of scores above which the math backend, which stores them all, is left out."""


class Clock:
    """The median seconds of some work, within what is left of the minutes."""

    def __init__(self, device: torch.device, repeats: int, minutes: float) -> None:
        self._device, self._repeats = device, repeats
        self._end = time.monotonic() + 60 * minutes

    def time(self, work: Callable[[], Any], flops: float) -> dict[str, Any]:
        """{seconds, tflops_per_s}, or {failed} with the reason."""
        if time.monotonic() > self._end:
            return {"failed": "the time was up"}
        try:
            work()
            spent = statistics.median(seconds(work, self._device) for _ in range(self._repeats))
        except (RuntimeError, NotImplementedError) as error:  # out of memory is one
            return {"failed": str(error).strip().splitlines()[0][:100]}
        return {"seconds": spent, "tflops_per_s": flops / spent / 1e12}


def phases(features: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """A 3×3 convolution of some dilation as dense ones on d² phases; sides that d does not divide are padded."""
    batch, _, height, width = features.shape
    rows, columns = -height % dilation, -width % dilation
    padded = F.pad(features, (0, columns, 0, rows))
    apart = padded.unflatten(3, (-1, dilation)).unflatten(2, (-1, dilation))  # b c h d w d
    dense = apart.permute(0, 3, 5, 1, 2, 4).flatten(0, 2)
    output = F.conv2d(dense, weight, padding=1)
    together = output.unflatten(0, (batch, dilation, dilation)).permute(0, 3, 4, 1, 5, 2)
    return together.flatten(4, 5).flatten(2, 3)[:, :, :height, :width]


def convolutions(
    shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, device: torch.device, clock: Clock
) -> list[dict[str, Any]]:
    rows = []
    benchmark = torch.backends.cudnn.benchmark
    for name, (batch, into, out, side) in shapes.items():
        flops = 2 * 9 * batch * into * out * side**2
        for layout in (torch.contiguous_format, torch.channels_last):
            features = torch.randn(batch, into, side, side, device=device, dtype=dtype).to(memory_format=layout)
            weight = torch.randn(out, into, 3, 3, device=device, dtype=dtype).to(memory_format=layout)
            for tuned in (False, True) if device.type == "cuda" else (False,):
                torch.backends.cudnn.benchmark = tuned
                for dilation in DILATIONS:
                    ways: dict[str, Callable[[], Any]] = {
                        "dilated": lambda d=dilation, f=features, w=weight: F.conv2d(f, w, padding=d, dilation=d)
                    }
                    if dilation > 1:
                        ways["phases"] = lambda d=dilation, f=features, w=weight: phases(f, w, d)
                    for way, work in ways.items():
                        rows.append(
                            {
                                "what": name, "shape": [batch, into, out, side], "dilation": dilation, "way": way,
                                "layout": "NCHW" if layout is torch.contiguous_format else "channels-last",
                                "cudnn_benchmark": tuned, **clock.time(work, flops),
                            }
                        )  # fmt: skip
    torch.backends.cudnn.benchmark = benchmark
    for row in rows:
        dense = next(one for one in rows if one["dilation"] == 1 and _same(one, row))
        if "seconds" in row and "seconds" in dense:
            row["over_dense"] = row["seconds"] / dense["seconds"]
    return rows


def attentions(
    shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, device: torch.device, clock: Clock
) -> list[dict[str, Any]]:
    rows = []
    for name, shape in shapes.items():
        batch, heads, tokens, width = shape
        query, key, value = (torch.randn(shape, device=device, dtype=dtype) for _ in range(3))
        for backend, which in BACKENDS.items():

            def attend(which: SDPBackend = which, q: Tensor = query, k: Tensor = key, v: Tensor = value) -> Tensor:
                with sdpa_kernel(which):
                    return F.scaled_dot_product_attention(q, k, v)

            scores = batch * heads * tokens**2 * query.element_size()
            if which is SDPBackend.MATH and scores > LARGEST_SCORES:
                found: dict[str, Any] = {"failed": f"its scores take {scores / 2**30:.0f} GiB"}
            else:
                found = clock.time(attend, 4 * batch * heads * tokens**2 * width)
            rows.append({"what": name, "shape": list(shape), "backend": backend, **found})
    return rows


def table(result: dict[str, Any]) -> str:
    """Markdown: two tables."""
    head = "| convolution | dilation | way | layout | benchmark | ms | TFLOP/s | over dense |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for row in result["convolutions"]:
        tuned = "on" if row["cudnn_benchmark"] else "off"
        ratio = f"{row['over_dense']:.2f}" if "over_dense" in row else "–"
        how = f"{row['dilation']} | {row['way']} | {row['layout']} | {tuned}"
        lines.append(f"| {row['what']} | {how} | {_figures(row)} | {ratio} |")
    lines += ["", "| attention | shape | backend | ms | TFLOP/s |", "|---|---|---|---|---|"]
    for row in result["attention"]:
        lines.append(f"| {row['what']} | {tuple(row['shape'])} | {row['backend']} | {_figures(row)} |")
    return "\n".join(lines)


def _figures(row: dict[str, Any]) -> str:
    if "seconds" not in row:
        return f"{row['failed']} | –"
    return f"{1000 * row['seconds']:.3f} | {row['tflops_per_s']:.2f}"


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key] == other[key] for key in ("what", "layout", "cudnn_benchmark"))


@torch.no_grad()
def main() -> None:
    """Measure, print two tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16" if on_gpu else "fp32")
    parser.add_argument("--tiny", action="store_true", help="small shapes; without a GPU these are taken anyway")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=8.0, help="what is not measured by then is left out")
    parser.add_argument("-o", "--json", type=Path)
    options = parser.parse_args()
    device, dtype = torch.device(options.device), DTYPES[options.dtype]
    tiny = options.tiny or device.type == "cpu"
    clock = Clock(device, options.repeats, options.minutes)
    shapes = (TINY_CONVOLUTIONS, TINY_ATTENTIONS) if tiny else (CONVOLUTIONS, ATTENTIONS)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    result = {
        "date": time.strftime("%Y-%m-%d"), "machine": machine, "dtype": options.dtype, "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "ceilings": ceilings(sorted({shape[-1] for shape in shapes[1].values()} - {512}), dtype, device),
        "attention": attentions(shapes[1], dtype, device, clock),
        "convolutions": convolutions(shapes[0], dtype, device, clock),
    }  # fmt: skip
    print(f"{result['date']}, {machine}, {options.dtype}, torch {torch.__version__}, cuDNN {result['cudnn']}")
    print(json.dumps(result["ceilings"]))
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
