"""The oracle inside of any pipeline: each of its U-Net calls becomes the method written plainly (`tests/reference.py`).

The pipeline's own loop, masks, ControlNets and guidance stay; only what the U-Net answers is the oracle's.  For a
guided pair under noise damping both denoisers evaluate the whole pair, and the answer is (u, c) such that the
pipeline's guidance u + w · (c − u) is the paper's equation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor

from tests.reference import dispersed_layers, in_span, layer_factors, patched


@contextlib.contextmanager
def plainly(pipe: Any, recipe: dict[str, Any], pairs: bool = True) -> Iterator[None]:
    """For the length of the block, let a pipeline's U-Net answer as the oracle.

    Args:
        pipe: with a U-Net that nothing is applied to.
        recipe: the recipe file as a dictionary.
        pairs: whether its calls are pairs of an unconditional and a conditional half.
    """
    unet = pipe.unet
    own = unet.forward

    def forward(sample: Tensor, timestep: Any, *args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        table = [float(t) for t in pipe.scheduler.timesteps]
        step, steps = table.index(float(timestep)), len(table)
        dispersed = dispersed_layers(unet, recipe, step, steps)

        def evaluate(section: str) -> Tensor:
            fresh = {key: list(value) if isinstance(value, list) else value for key, value in kwargs.items()}
            factors = layer_factors(unet, recipe, section, step, steps)
            with patched(unet, factors, dispersed, recipe.get("dispersion")):
                output: Tensor = own(sample, timestep, *args, return_dict=False, **fresh)[0]
            return output

        output = evaluate("redilation")
        if pairs and in_span(recipe.get("noise_damping"), step, steps):
            unconditional, conditional = output.chunk(2)
            base, _ = evaluate("noise_damping").chunk(2)
            output = torch.cat([base, base + conditional - unconditional])
        return UNet2DConditionOutput(sample=output) if return_dict else (output,)

    unet.forward = forward
    yield
    del unet.forward


def relative(result: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    return float((result - reference).norm() / reference.norm())
