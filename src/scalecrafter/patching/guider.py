"""Noise-damped guidance as a guider, for modular pipelines: the place where they compute their guidance.

A modular pipeline calls the U-Net once for each branch, so what the hook does elsewhere (`guidance.damped_pair` of one
guided batch) is done here, once both branches are in.
"""

from __future__ import annotations

from typing import Any

from diffusers.guiders import ClassifierFreeGuidance
from torch import Tensor, nn

from .apply import calls_of


class NoiseDampedGuidance(ClassifierFreeGuidance):  # type: ignore[misc]
    """Classifier-free guidance with the noise damping of the recipe that is applied to the pipeline.

    `pipe.update_components(guider=NoiseDampedGuidance(guidance_scale=7.5))`, before `scalecrafter.apply` or after.
    Takes the settings of diffusers' `ClassifierFreeGuidance`, and is that where nothing is applied, where the recipe
    has no noise damping, and outside its span.  Inside of it one more unconditional evaluation is made, by the
    strong denoiser: He et al. 2024 (arXiv 2310.07702), section 3.4, equation 8.
    """

    damps_noise = True

    _strong: Tensor | None = None

    def set_state(self, *args: Any, **kwargs: Any) -> None:
        """A new step begins."""
        self._strong = None
        super().set_state(*args, **kwargs)

    def prepare_models(self, denoiser: nn.Module) -> None:
        """Before the evaluation of one branch: set which one it is."""
        super().prepare_models(denoiser)
        calls = calls_of(denoiser)
        if calls is not None:
            calls.unconditional = not self.is_conditional
            calls.strong_prediction = None

    def cleanup_models(self, denoiser: nn.Module) -> None:
        """After it: fetch the strong denoiser's prediction, if there is one."""
        super().cleanup_models(denoiser)
        calls = calls_of(denoiser)
        if calls is not None and calls.strong_prediction is not None:
            self._strong, calls.strong_prediction = calls.strong_prediction, None

    def forward(self, pred_cond: Tensor, pred_uncond: Tensor | None = None) -> Any:
        """The guided prediction `(batch, …)` from those of the two branches."""
        if self._strong is not None and pred_uncond is not None:
            pred_cond, pred_uncond = self._strong + (pred_cond - pred_uncond), self._strong
        return super().forward(pred_cond, pred_uncond)
