"""What goes wrong while a picture is made, in words that say what to do: NaN, infinity, and too little memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..._util.memory import bytes_refused, is_out_of_memory
from ..._util.sizes import ModelSizes
from ...errors import ModelError, NumericalError, OutOfMemoryError, VaeOutOfMemoryError
from ...models.denoisers import denoiser_name, denoiser_of
from ...request.request import Request
from ...vae import decode_memory, free_memory, readable


def check_finite(values: Tensor, what: str, pipe: Any) -> None:
    """Raise `NumericalError` with the likely cause and the remedy if there is NaN or infinity in `values`."""
    finite = torch.isfinite(values)
    if bool(finite.all()):
        return
    bad = values.numel() - int(finite.sum())
    is_picture = "picture" in what
    precision = str((pipe.vae if is_picture else denoiser_of(pipe)).dtype).removeprefix("torch.")
    if is_picture:
        cause = (
            "the VAE overflows in float16; take --dtype bf16 or fp32, or a VAE made for float16"
            if precision == "float16"
            else "damaged VAE weights, since float16 is not in use; load the model anew from a trusted copy"
        )
    else:
        cause = (
            f"{denoiser_name(pipe)} overflows in float16; take --dtype bf16 or fp32"
            if precision == "float16"
            else "damaged weights, or a guidance that is far too high; lower the guidance, then load the model anew"
        )
    raise NumericalError(
        f"{what}: {bad} of {values.numel()} values are NaN or infinite ({precision}), so no picture was made. "
        f"Likely cause and remedy: {cause}."
    )


@contextmanager
def explained_out_of_memory(request: Request, architecture: ModelSizes, name: str = "the U-Net") -> Iterator[None]:
    """Turn torch's and Python's ways of running out of memory into one error.

    It says what was tried, how much was needed and what to try next.  Decoding has an explanation of its own.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        refused = bytes_refused(error)
        needed = f": {readable(refused)} more were needed at once" if refused else ""
        tried = [f"{request.dtype or 'the usual'} precision", f"device {request.device}"]
        raise OutOfMemoryError(
            f"{name} ran out of memory at {request.width}×{request.height}{needed}. Tried: {', '.join(tried)}. "
            f"Try next: {_next_settings(request, architecture)}"
        ) from error


def _next_settings(request: Request, architecture: ModelSizes) -> str:
    multiple = architecture.size_multiple
    asked = (request.width or 0, request.height or 0)
    smaller = tuple(max(side * 3 // 4 // multiple, 1) * multiple for side in asked)
    advice = ["--fit (finds settings that fit)"]
    if request.dtype == "fp32" or (request.dtype is None and request.device == "cpu"):
        advice.append("--dtype bf16 (half the memory)")
    if smaller != asked:
        advice.append(f"--size {smaller[0]}x{smaller[1]}")
    if request.device != "cpu":
        advice.append("--device cpu (slow, but usually with more memory)")
    return ", then ".join(advice)


@contextmanager
def explained_decoding(pipe: Any, latents: Tensor) -> Iterator[None]:
    """Free what offloading brought in; if memory runs out, say how much the decoding needs and what to try."""
    free = free_memory(latents.device)
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        side = pipe.vae_scale_factor
        height, width = latents.shape[-2] * side, latents.shape[-1] * side
        precision = str(pipe.vae.dtype).removeprefix("torch.")
        problem = f"the VAE ran out of memory decoding {width}×{height} at once in {precision}"
        try:
            needed, _ = decode_memory(pipe.vae, height, width)
        except ModelError as unknown:
            raise VaeOutOfMemoryError(f"{problem}, and tiles do not help, for {unknown}") from error
        budget = max(min(needed // 4, free // 2 if free is not None else needed), 1 << 20)
        raise VaeOutOfMemoryError(
            f"{problem}: it needed about {readable(needed)}{_of_free(free)}. Try next: --vae-memory {budget >> 20}MiB "
            "(tiles, with the same result), or --fit"
        ) from error
    finally:
        pipe.maybe_free_model_hooks()


def _of_free(free: int | None) -> str:
    return f" where {readable(free)} were free" if free is not None else ""
