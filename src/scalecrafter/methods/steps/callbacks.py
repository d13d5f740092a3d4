"""Progress and cancelling, for every pipeline that takes `callback_on_step_end`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from diffusers.callbacks import (
    MultiPipelineCallbacks,
    PipelineCallback,
    SDCFGCutoffCallback,
    SDXLCFGCutoffCallback,
)
from torch import Tensor

from ...errors import Cancelled

__all__ = ["Cancelled", "Change", "ProgressCallback"]

Change = Callable[[Any, int, Tensor], Tensor]


class ProgressCallback(PipelineCallback):  # type: ignore[misc]
    """Reports each step of a run, and can cancel it: `pipe(…, callback_on_step_end=ProgressCallback(report))`.

    A cancelled run ends with `Cancelled` from the pipeline's call, after the step that it is at, so no half-denoised
    picture is decoded.  The pipeline can be called again afterwards, with or without the same callback, and what is
    applied to it stays applied.
    """

    tensor_inputs = ["latents"]  # noqa: RUF012 (a list in diffusers' own classes too)

    def __init__(
        self,
        report: Callable[[int, int], object] | None = None,
        show: Callable[[Tensor], object] | None = None,
        change: Change | None = None,
    ) -> None:
        """Make one.

        Args:
            report: called with (steps done, steps of this run) after each step; what it raises ends the run.
            show: called with the latents `(batch, channels, height, width)` after each step, for a preview.
            change: called after each step with (pipeline, index of the step in this run, latents); the run goes on with
                the latents that it returns.
        """
        super().__init__()
        self._report = report
        self._show = show
        self._change = change
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """End the run after the step that it is at; from any thread, also before the run begins."""
        self._cancelled.set()

    def callback_fn(self, pipeline: Any, step_index: int, _timestep: Any, callback_kwargs: Any) -> Any:
        """What a pipeline calls after a step; returns `callback_kwargs`, as they are unless there is a `change`."""
        done, steps = step_index + 1, _steps(pipeline)
        if self._report is not None:
            self._report(done, steps)
        if self._show is not None:
            self._show(callback_kwargs["latents"])
        if self._change is not None:
            callback_kwargs["latents"] = self._change(pipeline, step_index, callback_kwargs["latents"])
        if self._cancelled.is_set():
            self._cancelled.clear()
            raise Cancelled(f"cancelled after step {done} of {steps}")
        return callback_kwargs


def unguided_after(report: ProgressCallback, steps: int, pipe: Any) -> Any:
    """The same callback, which ends classifier-free guidance after so many steps of a run (diffusers' own cut-off)."""
    from_text_and_size = pipe.unet.config.get("addition_embed_type") == "text_time"
    kind = SDXLCFGCutoffCallback if from_text_and_size else SDCFGCutoffCallback
    cutoff = kind(cutoff_step_ratio=None, cutoff_step_index=steps - 1)
    return MultiPipelineCallbacks([report, cutoff])


def _steps(pipeline: Any) -> int:
    """How many steps this run has; image-to-image begins late in the scheduler's table."""
    counted = getattr(pipeline, "num_timesteps", None)
    return int(counted) if counted is not None else len(pipeline.scheduler.timesteps)
