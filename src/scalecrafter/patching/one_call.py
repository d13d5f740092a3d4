"""Re-dilation and dispersion for one call of a U-Net that another program runs: put on before it, taken off after it.

ComfyUI and its like have samplers of their own, so there is no pipeline to hook into. They say where in the trajectory
a call is, and wrap the call. Nothing stays on the model between two calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

from torch import nn

from ..recipes.automatic import automatic_recipe
from ..recipes.recipe import Recipe
from ..recipes.resolution import LayerChanges, ResolvedRecipe, resolve
from ..unet.architecture import Architecture
from .convolution import ConvolutionPatch


def resolved_for(recipe: Recipe | None, architecture: Architecture, height: int, width: int) -> ResolvedRecipe | None:
    """What acts on latents of this size: the recipe, or with None the automatic one; None where nothing does.

    Raises:
        RecipeError: for a recipe that would not do what it says on this model.
    """
    chosen = automatic_recipe(architecture, height, width) if recipe is None else recipe
    return None if chosen is None else resolve(chosen, architecture, lenient=recipe is None)


@contextmanager
def changed_convolutions(architecture: Architecture, resolved: ResolvedRecipe, changes: LayerChanges) -> Iterator[None]:
    """The convolutions of a U-Net changed for the length of a `with` block, exceptions included.

    Dispersed kernels are computed anew in each block, from the weights as they are then.
    """
    transform = resolved.transform if changes.dispersed else None
    put_on: list[tuple[nn.Conv2d, ConvolutionPatch]] = []
    try:
        for name in {**changes.factors, **dict.fromkeys(changes.dispersed)}:
            for convolution in architecture.convolutions[name]:
                patch = ConvolutionPatch(convolution)
                patch.install(convolution)
                put_on.append((convolution, patch))
                patch.set(changes.factors.get(name), transform if name in changes.dispersed else None)
        yield
    finally:
        for convolution, patch in reversed(put_on):
            patch.remove(convolution)


def place_by_sigmas(sigma: float, sigmas: list[float], start: float) -> Fraction:
    """Where in the trajectory a call is: 0 is pure noise.

    Args:
        sigma: the noise of the call.
        sigmas: the sampler's table, from the noisiest; its last entry is 0 where the run goes to the end.
        start: where the table begins in the whole trajectory, as `1 - timestep / num_train_timesteps` counts it; image
            to image begins later.

    A call between two entries of the table, as samplers of second order make them, counts for the noisier one.
    """
    steps = max(len(sigmas) - 1, 1)
    index = sum(entry > sigma * (1 + _SAME) for entry in sigmas[:steps])
    index = min(
        index if index < steps and abs(sigmas[index] - sigma) <= _SAME * sigma else max(index - 1, 0), steps - 1
    )
    if start * steps < _FROM_THE_START:
        return Fraction(index, steps)
    begin = Fraction(start).limit_denominator(1000)
    return begin + (1 - begin) * Fraction(index, steps)


_SAME = 1e-4
"""How far, relatively, a sigma may be from its entry in the table."""
_FROM_THE_START = 1.5
"""Steps of the table: one that begins no later than this begins at the start, as with leading spacing."""
