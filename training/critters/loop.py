"""What every training here shares: a resumable loop with a moving average of the weights.

Knows nothing of pictures or of noise: a training is a module, a step function that returns a
loss, and a `Schedule`.  A checkpoint holds everything needed to go on from where it stopped: weights,
moving average, optimizer and step.  It is written to a temporary name and renamed, so that a run
killed at any moment leaves a whole one behind.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_flux import FluxSingleTransformerBlock, FluxTransformerBlock
from torch import Tensor, nn

from .optimizer import KernelOptimizer


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: linear warm-up, then cosine decay to zero."""

    steps: int
    learning_rate: float
    warmup: int = 100
    average: float = 0.999
    checkpoint_every: int = 250
    report_every: int = 50
    muon: bool = False
    """Kernels by Muon instead of AdamW."""

    def rate(self, step: int) -> float:
        """Learning rate at `step` (0-based)."""
        warm = min((step + 1) / max(self.warmup, 1), 1.0)
        return self.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * min(step / self.steps, 1.0)))


def pick_device(name: str = "auto") -> torch.device:
    """`auto` takes a GPU when there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def pick_precision(device: torch.device, name: str = "auto") -> torch.dtype:
    """bfloat16 where it is faster than float32: on GPUs, and on CPUs only if a convolution says so."""
    if name != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
    if device.type != "cpu":
        return torch.bfloat16
    seconds = {dtype: _convolution_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return min(seconds, key=lambda dtype: seconds[dtype])


def _convolution_seconds(dtype: torch.dtype) -> float:
    layer = nn.Conv2d(64, 64, 3, padding=1).to(dtype)
    features = torch.randn(16, 64, 32, 32).to(dtype)
    with torch.no_grad():
        layer(features)
        start = time.perf_counter()
        for _ in range(5):
            layer(features)
    return time.perf_counter() - start


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Mixed precision for the forward pass, or nothing in float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


BLOCKS = (ResnetBlock2D, FluxTransformerBlock, FluxSingleTransformerBlock)
"""What is compiled: of a U-Net (a third faster on a CPU), of an autoencoder, of a transformer (a sixth)."""


def compile_blocks(module: nn.Module) -> None:
    """Compile every block in place: norms and activations, fused, make a CPU's step faster.

    Only these: compiled whole, the autoencoder's decoder passed no gradient on to its latents (torch 2.13, CPU, bf16).
    """
    torch._dynamo.config.recompile_limit = 256  # one for each block and shape: they share their code
    for block in module.modules():
        if isinstance(block, BLOCKS):
            block.compile(dynamic=False)


@torch.no_grad()
def adopt(module: nn.Module, other: nn.Module) -> list[str]:
    """Take over the other's parameters where name and shape agree; the names of those that it could not give."""
    theirs = other.state_dict()
    missing = []
    for name, value in module.state_dict().items():
        if name in theirs and theirs[name].shape == value.shape:
            value.copy_(theirs[name])
        else:
            missing.append(name)
    return missing


def save_atomically(state: object, path: Path) -> None:
    """`torch.save` under a temporary name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(path.suffix + ".part")
    torch.save(state, temporary)
    os.replace(temporary, path)


def train(
    module: nn.Module,
    step_loss: Callable[[int], Tensor],
    schedule: Schedule,
    checkpoint: Path,
    device: torch.device,
    dtype: torch.dtype,
    report: Callable[[str], None] = print,
    on_checkpoint: Callable[[int, nn.Module], None] | None = None,
) -> nn.Module:
    """Train `module` in place and return its exponential moving average.

    `step_loss(step)` returns the scalar loss of one batch; all randomness it uses must come from
    `step`, so that a resumed run sees the batches it would have seen.
    """
    average = copy.deepcopy(module).requires_grad_(False)
    optimizer = KernelOptimizer(module, schedule.learning_rate, schedule.muon)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        module.load_state_dict(state["module"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["step"])
        report(f"resumed from {checkpoint} at step {first}")

    def save(step: int) -> None:
        state = {
            "module": module.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
        }
        save_atomically(state, checkpoint)
        if on_checkpoint is not None:
            on_checkpoint(step, average)

    losses: list[float] = []
    since = time.perf_counter()
    for step in range(first, schedule.steps):
        optimizer.set_rate(schedule.rate(step))
        with autocast(device, dtype):
            loss = step_loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        module.zero_grad(set_to_none=True)
        _update_average(average, module, min(schedule.average, (step + 1) / (step + 10)))
        losses.append(loss.detach().item())
        if not math.isfinite(losses[-1]):
            raise RuntimeError(
                f"the loss became {losses[-1]} at step {step}; resume from {checkpoint} with a lower rate"
            )
        if (step + 1) % schedule.report_every == 0 or step + 1 == schedule.steps:
            seconds = (time.perf_counter() - since) / len(losses)
            mean = sum(losses) / len(losses)
            report(f"{checkpoint.stem} step {step + 1}/{schedule.steps} loss {mean:.4f} {seconds:.2f} s/step")
            losses, since = [], time.perf_counter()
        if (step + 1) % schedule.checkpoint_every == 0 or step + 1 == schedule.steps:
            save(step + 1)
    return average


@torch.no_grad()
def _update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    pairs: Iterator[tuple[Tensor, Tensor]] = zip(average.parameters(), module.parameters(), strict=True)
    for mean, value in pairs:
        mean.lerp_(value, 1.0 - decay)
