"""No black pictures: what a VAE makes of numbers that are not finite, or that float16 cannot hold."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NumericalError


class VaeNotice(UserWarning):
    """The VAE changed something to make the picture possible: tiles, or a wider type."""


def check_given(values: Tensor, part: str) -> None:
    """Raise `NumericalError` for NaN or infinity in what enters "encoder" or "decoder"."""
    bad = not_finite(values)
    if bad:
        what, cause = (
            ("latents", "the U-Net overflows in float16 (load it in bfloat16 or float32), or a guidance far too high")
            if part == "decoder"
            else ("image", "a damaged picture file, or preprocessing that divides by zero")
        )
        raise NumericalError(
            f"the {what} given to the VAE's {part}: {bad} of {values.numel()} values are NaN or infinite, so no "
            f"picture was made. Likely cause: {cause}."
        )


def repaired(module: nn.Module, part: str, arguments: tuple[Any, ...], output: Tensor) -> Tensor | None:
    """What to return in the place of an encoder's or decoder's output: None where it is finite.

    A float16 output that is not is computed again in a wider type, and the weights are put back.

    Args:
        module: the encoder or decoder, called again with `arguments`.
        part: "encoder" or "decoder".
        arguments: its positional arguments, the tensor first; that tensor is finite.
        output: what it returned.

    Raises:
        NumericalError: where no wider type helps.
    """
    bad = not_finite(output)
    if not bad:
        return None
    what = "decoded picture" if part == "decoder" else "encoded image"
    problem = f"the {what}: {bad} of {output.numel()} values are NaN or infinite"
    if output.dtype is torch.float16:
        if any(parameter.is_meta for parameter in module.parameters()):
            raise NumericalError(
                f"{problem} (float16), so no picture was made. Likely cause and remedy: the VAE overflows in float16, "
                "and its weights are brought in layer by layer, so it cannot be widened here; load the VAE in bfloat16 "
                "or float32, or take a VAE made for float16."
            )
        for wider in wider_types(output.device):
            try:
                with in_type(module, wider):
                    again = module(arguments[0].to(wider), *arguments[1:])
            except NumericalError:  # the same hook, on the wider output
                continue
            if not not_finite(again):
                name = str(wider).removeprefix("torch.")
                warnings.warn(f"{problem} in float16, so the VAE ran again in {name}", VaeNotice, stacklevel=2)
                return again.to(output.dtype)  # type: ignore[no-any-return]
    precision = str(output.dtype).removeprefix("torch.")
    raise NumericalError(
        f"{problem} ({precision}), so no picture was made. Likely cause and remedy: damaged VAE weights, since "
        f"{'a wider type gives the same' if precision == 'float16' else 'float16 is not in use'}; load the model anew "
        "from a trusted copy."
    )


def wider_types(device: torch.device) -> list[torch.dtype]:
    """Types that hold what float16 cannot: bfloat16 first where the device is made for it, float32 always."""
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return [torch.bfloat16, torch.float32] if fast else [torch.float32]


@contextmanager
def in_type(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """A module with its floating-point weights in another type; afterwards it has its own tensors back, untouched."""
    own: list[tuple[Tensor, Tensor]] = []
    tensors: Callable[[], list[Tensor]] = lambda: [*module.parameters(), *module.buffers()]  # noqa: E731
    try:
        for tensor in tensors():
            if tensor.is_floating_point():
                own.append((tensor, tensor.data))
                tensor.data = tensor.data.to(dtype)
        yield
    finally:
        for tensor, data in own:
            tensor.data = data


def not_finite(values: Tensor) -> int:
    """How many values are NaN or infinite."""
    finite = torch.isfinite(values)
    return 0 if bool(finite.all()) else values.numel() - int(finite.sum())
