"""The progress callback of a worker: it writes steps and previews to the store, and stops unwanted pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

from torch import Tensor

from ..vae.previews import preview
from .claims import Claims
from .records import Claim

_STEPS_EVERY = 0.2
_PREVIEWS_EVERY = 0.7
_QUARTERS = 4
"""There is a preview after each but the last, so that streams have their partial images of quick pictures too."""
PREVIEW_SIDE = 256
"""Image pixels, at most."""


class NotWantedError(Exception):
    """The job was cancelled, or another worker has the picture."""


class StoppingError(Exception):
    """The worker must stop, and the grace period is over."""


class ProgressReporter:
    """The progress argument of `generation.generate`.

    Args:
        vae: whose latents are shown.
        must_stop: whether the picture has to be given back now.
        lost: whether a heartbeat already found that the picture is no longer this worker's.
    """

    def __init__(
        self, claims: Claims, claim: Claim, vae: Any, must_stop: Callable[[], bool], lost: Callable[[], bool]
    ) -> None:
        self._claims, self._claim, self._vae = claims, claim, vae
        self._must_stop, self._lost = must_stop, lost
        self._step, self._steps, self._quarter = 0, 0, 0
        self._message = self._shown = 0.0

    def __call__(self, step: int, steps: int) -> None:
        """A step is done."""
        self._step, self._steps = step, steps
        if self._must_stop():
            raise StoppingError
        if self._lost():
            raise NotWantedError
        if step == steps or time.monotonic() - self._message >= _STEPS_EVERY:
            self._report(None)

    def show(self, latents: Tensor) -> None:
        """The latents `(1, channels, height, width)` of that step."""
        quarter = _QUARTERS * self._step // max(self._steps, 1)
        if time.monotonic() - self._shown >= _PREVIEWS_EVERY or self._quarter < quarter < _QUARTERS:
            self._shown, self._quarter = time.monotonic(), quarter
            self._report(small_jpeg(self._vae, latents))

    def _report(self, picture: bytes | None) -> None:
        self._message = time.monotonic()
        if not self._claims.progress(self._claim, self._step, self._steps, picture):
            raise NotWantedError


def small_jpeg(vae: Any, latents: Tensor) -> bytes:
    """A preview of latents as a JPEG file of at most `PREVIEW_SIDE` pixels a side."""
    image = preview(vae, latents)
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    file = BytesIO()
    image.save(file, format="JPEG", quality=80)
    return file.getvalue()
