"""Classifier-free guidance in an interval of the trajectory alone, and rescaled, whatever the pipeline.

Papers: Kynkäänniemi et al. 2024 (arXiv 2404.07724): guidance hurts at high noise and does nothing at low noise.  There
the U-Net is evaluated for the conditional half alone, which saves half of the work.  Lin et al. 2024 (arXiv
2305.08891), section 3.4: large scales widen the prediction's distribution; rescaling brings its deviation back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError, RecipeError
from ..ops.guidance import conditional_half, rescaled_pair
from ..unet.architecture import find_unet
from ..unet.trajectory import Trajectory
from .installation import installation_on

EVERYWHERE = (0.0, 1.0)


@contextmanager
def steered_guidance(pipe: Any, interval: tuple[float, float] = EVERYWHERE, rescale: float = 0.0) -> Iterator[Any]:
    """For the length of a `with` block, guide within an interval alone, and rescale guidance there.

    Runs that do not guide are left alone.  Not for pipelines that guide in three branches, nor together with noise
    damping, which takes the pair for its own purpose.

    Args:
        pipe: a pipeline with a U-Net that guides in pairs, the unconditional half first.
        interval: from the first place in the trajectory (0 is the noisiest) up to before the second.
        rescale: 0 leaves the prediction, 1 gives it the deviation of the conditional one.
    """
    if interval == EVERYWHERE and rescale == 0.0:
        yield pipe
        return
    unet, steering = find_unet(pipe), _Steering(pipe, interval, rescale)
    handles = [
        unet.register_forward_pre_hook(steering.before, with_kwargs=True),
        unet.register_forward_hook(steering.after, prepend=True),
    ]
    try:
        yield pipe
    finally:
        for handle in handles:
            handle.remove()


class _Steering(threading.local):
    """The two hooks: one leaves half of a batch out, the other gives a pair back."""

    def __init__(self, pipe: Any, interval: tuple[float, float], rescale: float) -> None:
        self._pipe, self._rescale = pipe, rescale
        self._interval = Fraction(str(interval[0])), Fraction(str(interval[1]))  # 0.1 is 1/10, as spans of recipes
        self._trajectory = Trajectory()
        self._guides = self._halved = False

    def before(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before a U-Net call: outside of the interval, leave the conditional half."""
        self._guides = bool(getattr(self._pipe, "do_classifier_free_guidance", False))
        self._halved = False
        if not self._guides:
            return None
        installation = installation_on(unet)
        if installation is not None and installation.calls.strong is not None:
            raise RecipeError(
                "noise damping and a guidance interval or rescaling both make the guided pair: leave one of them out"
            )
        sample: Tensor = args[0] if args else kwargs["sample"]
        batch = sample.shape[0]
        if batch % 2 or not torch.equal(*sample.chunk(2)):
            raise ModelError(
                f"{type(self._pipe).__name__} does not guide in pairs: leave the guidance interval and rescaling out"
            )
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        run = getattr(self._pipe, "num_timesteps", None)
        place = self._trajectory.place(self._pipe.scheduler, timestep, run)
        first, last = self._interval
        if first <= place < last:
            return None
        self._halved = True
        return tuple(conditional_half(value, batch) for value in args), conditional_half(kwargs, batch)

    def after(self, _unet: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        """After a U-Net call: a pair whose guidance is what was asked for."""
        if not self._guides:
            return None
        found: Tensor = output[0] if isinstance(output, tuple) else output.sample
        if self._halved:
            pair = torch.cat([found, found])
        elif self._rescale:
            pair = rescaled_pair(found, float(self._pipe.guidance_scale), self._rescale)
        else:
            return None
        return (pair, *output[1:]) if isinstance(output, tuple) else type(output)(sample=pair)
