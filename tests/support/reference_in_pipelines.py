"""The reference implementation inside of any pipeline: it answers in place of the U-Net, and the pipeline's loop stays.

Each call patches the convolutions anew, and noise damping evaluates the whole guided pair twice: nothing is halved,
cached or skipped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tests.support.reference import dispersed_layers, in_span, layer_factors, patched


@contextlib.contextmanager
def reference_unet(pipe: Any, recipe: dict[str, Any], guided: bool = True, variance: bool = False) -> Iterator[None]:
    """For the length of the block, a pipeline's U-Net answers as the reference implementation.

    For a guided pair under noise damping the answer is (u, c) such that the pipeline's own guidance u + w · (c − u) is
    the equation of the paper.

    Args:
        pipe: a pipeline with nothing applied to its U-Net.
        recipe: the recipe file as a dictionary.
        guided: whether its calls are pairs of an unconditional and a conditional half.
        variance: whether the second half of the output's channels is a variance, which is not damped.
    """
    unet, own = pipe.unet, pipe.unet.forward
    calls = 0

    def forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        table = [float(timestep) for timestep in pipe.scheduler.timesteps]
        timestep = float(kwargs["timestep"] if "timestep" in kwargs else args[1])
        step, steps = table.index(timestep) if timestep in table else calls, len(table)
        calls += 1
        dispersed = dispersed_layers(unet, recipe, step, steps)

        def evaluate(section: str) -> Any:
            fresh = {key: list(value) if isinstance(value, list) else value for key, value in kwargs.items()}
            factors = layer_factors(unet, recipe, section, step, steps)
            with patched(unet, factors, dispersed, recipe.get("dispersion")):
                return own(*args, **fresh)

        output = evaluate("redilation")
        if not (guided and in_span(recipe.get("noise_damping"), step, steps)):
            return output
        unconditional, conditional = output[0].chunk(2)
        base, _ = evaluate("noise_damping")[0].chunk(2)
        damped = torch.cat([base, base + conditional - unconditional])
        if variance:
            half = damped.shape[1] // 2
            damped = torch.cat([damped[:, :half], output[0][:, half:]], dim=1)
        return (damped,) if isinstance(output, tuple) else type(output)(sample=damped)

    unet.forward = forward
    try:
        yield
    finally:
        del unet.forward


def relative(result: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    return float((result - reference).norm() / reference.norm())


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Of two results of the same shape: the largest difference over the largest value."""
    assert ours.shape == theirs.shape
    assert bool(torch.isfinite(ours).all())
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())
