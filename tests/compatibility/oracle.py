"""Any pipeline, its U-Net evaluated as `tests/reference.py` writes the method: the oracle of this folder.

The pipeline's own call runs on; only its U-Net is another.  Each evaluation patches the convolutions anew, and noise
damping evaluates the whole guided pair twice, so nothing is halved, cached or skipped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from tests.reference import dispersed_layers, in_span, layer_factors, patched


@contextlib.contextmanager
def plainly(pipe: Any, recipe: dict[str, Any], guided: bool, variance: bool = False) -> Iterator[None]:
    """`recipe` as a file's dictionary; `variance` where half of the output's channels are not noise."""
    unet, own = pipe.unet, pipe.unet.forward
    done = 0

    def forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        step, steps = done, len(pipe.scheduler.timesteps)
        done += 1
        dispersed = dispersed_layers(unet, recipe, step, steps)
        with patched(unet, layer_factors(unet, recipe, "redilation", step, steps), dispersed, recipe.get("dispersion")):
            output = own(*args, **kwargs)
        if not (guided and in_span(recipe.get("noise_damping"), step, steps)):
            return output
        factors = layer_factors(unet, recipe, "noise_damping", step, steps)
        with patched(unet, factors, dispersed, recipe.get("dispersion")):
            strong = own(*args, **kwargs)[0].chunk(2)[0]
        unconditional, conditional = output[0].chunk(2)
        damped = torch.cat([strong, strong + conditional - unconditional])
        if variance:
            half = damped.shape[1] // 2
            damped = torch.cat([damped[:, :half], output[0][:, half:]], dim=1)
        return (damped,) if isinstance(output, tuple) else type(output)(sample=damped)

    unet.forward = forward
    try:
        yield
    finally:
        del unet.forward


def relative_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Of two results of the same shape: the largest difference over the largest value."""
    assert ours.shape == theirs.shape
    assert bool(torch.isfinite(ours).all())
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())
