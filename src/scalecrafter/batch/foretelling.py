"""What the pictures of a batch will take in all, from the last ones here by the same settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..generation.timings import Place, known_pictures, settings_key
from .groups import Model, model_of
from .jobs import BatchTask


def foretold(tasks: Sequence[BatchTask], place: Callable[[BatchTask], Place]) -> float | None:
    """Seconds of these tasks, one after the other; None unless there was a picture by the settings of each."""
    known: dict[Model, Mapping[str, float]] = {}
    total = 0.0
    for task in tasks:
        model = model_of(task)
        if model not in known:
            made = reversed(known_pictures(place(task)))  # the newest last
            known[model] = {settings_key(picture.request): picture.seconds for picture in made}
        seconds = known[model].get(settings_key(task.request))
        if seconds is None:
            return None
        total += seconds
    return total
