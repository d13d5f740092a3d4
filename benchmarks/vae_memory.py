"""Peak memory, time and exactness of VAE decoding: all at once, diffusers' tiling, and ours below a budget.

    python -m benchmarks.vae_memory --sizes 512 1024
    python -m benchmarks.vae_memory --sizes 1024 --encode
    python -m benchmarks.vae_memory --device cuda --sizes 4096 --dtype bf16 fp32      # on a GPU
    python -m benchmarks.vae_memory --vae qwen-image --sizes 512 --modes untiled ours:quarter
    python -m benchmarks.vae_memory --vae wan --frames 3 --sizes 256 --modes untiled ours:quarter

The decoder is Stable Diffusion's (83.7 M parameters, 49.5 M of them in the decoder), or that of another published model
(`--vae`), with random weights; the latents
are noise on several scales, so that tiles differ from one another as those of a picture do.  Every row is a process of
its own.  Memory is what a decode adds at its peak: resident on a CPU, `torch.cuda.max_memory_allocated` on a GPU.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import diffusers
import torch
import torch.nn.functional as F
from torch import Tensor

from scalecrafter.vae import apply_vae_memory, decode_memory, encode_memory, free_memory

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MODES = {
    "untiled": "all at once",
    "diffusers:256": "diffusers' tiling, 256²",
    "diffusers:512": "diffusers' tiling, 512²",
    "ours:256": "ours, tiles of 256²",
    "ours:512": "ours, tiles of 512²",
    "ours:stripes": "ours, stripes of 64 rows",
    "ours:quarter": "ours, its own choice",
}
"""Ours runs below a budget, by default a quarter of what all at once takes by estimate."""


_KL: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "norm_num_groups": 32, "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
_DC_BLOCKS = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
VAES: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "sd": ("AutoencoderKL", _KL | {"latent_channels": 4}, 4, 8),
    "flux": (
        "AutoencoderKL",
        _KL | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}, 16, 8,
    ),
    "qwen-image": ("AutoencoderKLQwenImage", {}, 16, 8),
    "wan": ("AutoencoderKLWan", {}, 16, 8),
    "sana": (
        "AutoencoderDC",
        {
            "encoder_block_types": _DC_BLOCKS, "decoder_block_types": _DC_BLOCKS,
            "encoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
            "decoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
            "encoder_layers_per_block": (2, 2, 2, 3, 3, 3), "decoder_layers_per_block": (3,) * 6,
            "encoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
            "decoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
        },
        32, 32,
    ),
}  # fmt: skip
"""By name: class and configuration, which are those of published models, channels of the latents and their factor."""


def real_vae(name: str, device: str, dtype: torch.dtype) -> Any:
    """A VAE of `VAES` with random weights that keep values O(1)."""
    torch.manual_seed(0)
    kind, config, _, _ = VAES[name]
    with torch.device(device):
        vae = getattr(diffusers, kind)(**config)
    for parameter in vae.parameters():
        if parameter.ndim >= 2:
            torch.nn.init.normal_(parameter, std=1.2 / math.sqrt(parameter[0].numel()))
    return vae.to(dtype).eval().requires_grad_(False)


def noise_of_scales(channels: int, side: int) -> Tensor:
    """`(1, channels, side, side)`: noise, and coarser noise under it."""
    generator = torch.Generator().manual_seed(1)
    total = torch.randn((1, channels, side, side), generator=generator)
    for coarse in (2, 5, 16):
        noise = torch.randn((1, channels, coarse, coarse), generator=generator)
        total = total + F.interpolate(noise, size=(side, side), mode="bicubic")
    return total / 2


def resident(field: str) -> int:
    """Bytes of "VmRSS" (now) or "VmHWM" (the most so far)."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def child(options: argparse.Namespace) -> dict[str, Any]:
    """One decode (or encode) in this process; the picture (or the latents' mean) goes to a file."""
    device, dtype, mode = torch.device(options.device), DTYPES[options.dtype], options.child
    vae, side = real_vae(options.vae, options.device, dtype), options.sizes[0]
    height = width = side
    memory_of = encode_memory if options.encode else decode_memory
    _, _, channels, factor = VAES[options.vae]
    given = noise_of_scales(*((3, side) if options.encode else (channels, side // factor))).to(device, dtype)
    if hasattr(vae, "clear_cache"):  # of videos
        frames = 1 + 4 * (options.frames - 1) if options.encode else options.frames
        moving = [given.roll(number, -1) for number in range(frames)]
        given = torch.stack(moving, dim=2)
    kind, _, detail = mode.partition(":")
    whole, _ = memory_of(vae, height, width, "64TiB")
    result: dict[str, Any] = {"mode": mode, "size": height, "estimated_whole": whole}
    _one(vae, given[..., :64, :64] if options.encode else given[..., :8, :8])  # libraries make themselves ready
    if kind == "diffusers":
        vae.enable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = int(detail), int(detail) // 8
    elif kind == "ours":
        budget = options.memory or str(whole // 4 if options.frames == 1 else _of_video(vae, given, options) // 4)
        tile = {"stripes": (64, width), "quarter": None}.get(detail) if not detail.isdigit() else (int(detail),) * 2
        apply_vae_memory(vae, budget, tile=tile)
        started = time.perf_counter()
        _, plan = memory_of(vae, height, width, budget, tile=tile)
        assert plan is not None
        if options.frames == 1:
            result |= {"predicted": plan.peak, "plan": str(plan), "planning_seconds": time.perf_counter() - started}
            result["spans"] = [(one.start, one.stop, one.tile, one.inner, one.peak >> 20) for one in plan.spans]
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_gpu else resident("VmRSS")
    started, used = time.perf_counter(), time.process_time()
    picture = _one(vae, given)
    if on_gpu:
        torch.cuda.synchronize()
    result["seconds"], result["cpu_seconds"] = time.perf_counter() - started, time.process_time() - used
    result["peak"] = (torch.cuda.max_memory_allocated() if on_gpu else resident("VmHWM")) - before
    torch.save(picture.float().cpu(), options.picture)
    return result


@torch.no_grad()
def _one(vae: Any, given: Tensor) -> Tensor:
    """The picture of latents `(1, 4, …)`, or the mean latents of a picture `(1, 3, …)`."""
    if given.shape[1] == 3:
        found = vae.encode(given, return_dict=False)[0]
        return found if isinstance(found, Tensor) else found.mean  # type: ignore[no-any-return]
    return vae.decode(given, return_dict=False)[0]  # type: ignore[no-any-return]


def _of_video(vae: Any, given: Tensor, options: argparse.Namespace) -> int:
    """Bytes that a video takes at once, by estimate."""
    from scalecrafter.vae.video import VideoCall
    from scalecrafter.vae.walk import operations_of

    name = "encoder" if options.encode else "decoder"
    call = VideoCall(vae, None, "_encode" if options.encode else "_decode")
    call.frames = given.shape[2]
    estimate = call.estimate(operations_of(getattr(vae, name), name), given)
    return estimate.whole(1, (given.shape[-2], given.shape[-1]))


def run(mode: str, size: int, options: argparse.Namespace, folder: Path) -> dict[str, Any] | None:
    """One mode at one size in a process of its own; None where it does not fit."""
    picture = folder / f"{mode.replace(':', '-')}-{size}.pt"
    command = [
        sys.executable, "-m", "benchmarks.vae_memory", "--child", mode, "--sizes", str(size), "--picture", str(picture),
        "--dtype", options.dtype, "--device", options.device, *(["--memory", options.memory] if options.memory else []),
        *(["--encode"] if options.encode else []), "--vae", options.vae, "--frames", str(options.frames),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"{mode} at {size}²: {(done.stderr.strip().splitlines() or ['killed'])[-1]}", file=sys.stderr)
        return None
    return {**json.loads(done.stdout.splitlines()[-1]), "picture": str(picture)}


def compare(result: dict[str, Any], untiled: dict[str, Any] | None) -> None:
    """Exactness and seams of a result beside the untiled one, where there is one."""
    picture = torch.load(result["picture"], weights_only=True)
    _, _, detail = result["mode"].partition(":")
    tile = int(detail) * 3 // 4 if result["mode"].startswith("diffusers") else int(detail) if detail.isdigit() else 64
    picture = picture.flatten(1, 2) if picture.ndim == 5 else picture
    if picture.shape[1] % 3:
        tile = tile // 8  # latents, of an encoder
    result["seam"] = seam(picture, tile)
    if untiled is not None:
        whole = torch.load(untiled["picture"], weights_only=True)
        whole = whole.flatten(1, 2) if whole.ndim == 5 else whole
        span = float(whole.max() - whole.min())
        result["difference"] = float((picture - whole).abs().max()) / span
        result["tone"] = float(F.avg_pool2d(picture - whole, min(64, picture.shape[-1] // 4)).abs().max()) / span


def seam(picture: Tensor, tile: int) -> float:
    """Mean step between neighbouring rows at the borders of tiles, against that between all others."""
    steps = (picture[:, :, 1:] - picture[:, :, :-1]).abs().mean(dim=(0, 1, 3))
    border = torch.zeros(len(steps), dtype=torch.bool)
    border[tile - 1 :: tile] = True
    return float(steps[border].mean() / steps[~border].mean())


def table(results: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| size | how | peak, MiB | predicted | seconds | CPU seconds | largest difference | tone shift | seam |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        predicted = f"{one['predicted'] / 2**20:.0f}" if "predicted" in one else "–"
        if one["mode"] == "untiled":
            predicted = f"{one['estimated_whole'] / 2**20:.0f}"
        exact = [
            f"{one[key]:.1e}" if key in one and one["mode"] != "untiled" else "–" for key in ("difference", "tone")
        ]
        lines.append(
            f"| {one['size']}² | {MODES[one['mode']]} | {one['peak'] / 2**20:.0f} | {predicted} | "
            f"{one['seconds']:.1f} | {one['cpu_seconds']:.1f} | {exact[0]} | {exact[1]} | {one['seam']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run all and print a table, or with --child one decode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048, 4096], help="image pixels a side")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--memory", help='budget of ours, as "4GiB" [default: a quarter of all at once]')
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["fp32"], help="several make a table each")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--encode", action="store_true", help="the encoder rather than the decoder")
    parser.add_argument("--vae", choices=VAES, default="sd")
    parser.add_argument("--frames", type=int, default=1, help="of the latents, with a VAE of videos")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--picture", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        (options.dtype,) = options.dtype
        print(json.dumps(child(options)))
        return
    machine = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    results = []
    dtypes = options.dtype
    for options.dtype in dtypes:
        found = measure(options)
        print(f"{time.strftime('%Y-%m-%d')}, {options.dtype}, {machine}, torch {torch.__version__}")
        print(table(found), flush=True)
        results += [one | {"dtype": options.dtype} for one in found]
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All modes at all sizes in one dtype."""
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            untiled = None
            for mode in options.modes:
                if mode == "untiled" and not _fits(size, options):
                    print(f"untiled at {size}²: does not fit", file=sys.stderr)
                    continue
                result = run(mode, size, options, Path(folder))
                if result is None:
                    continue
                untiled = result if mode == "untiled" else untiled
                compare(result, untiled)
                results.append(result)
                print(f"{mode} {size}²: {result['peak'] / 2**20:.0f} MiB, {result['seconds']:.1f} s", file=sys.stderr)
    return results


def _fits(size: int, options: argparse.Namespace) -> bool:
    kind, config, _, _ = VAES[options.vae]
    with torch.device("meta"):
        vae = getattr(diffusers, kind)(**config).to(DTYPES[options.dtype])
    needed, _ = (encode_memory if options.encode else decode_memory)(vae, size, size, "64TiB")
    free = free_memory(torch.device(options.device))
    return free is None or needed < 0.9 * free


if __name__ == "__main__":
    main()
