"""Bootstrap intervals: how far a figure would move if other pictures had been drawn.

Percentile bootstrap (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13), resampling pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
_VALUES_AT_ONCE = 4_000_000
"""How many resampled values are held in memory together."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(
    values: Any, statistic: Literal["mean", "median"] = "mean", *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval | None:
    """The mean or median of `values` (one a picture) with its percentile interval; None for no values.

    Values that are all alike have an interval of no width: for a rate of 0 or 1 over n pictures the data are still
    compatible with a true rate 3 / n away ("rule of three").
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        return None
    of = np.mean if statistic == "mean" else np.median
    rng = np.random.default_rng(seed)
    at_once = max(_VALUES_AT_ONCE // sample.size, 1)
    found = [
        of(sample[rng.integers(sample.size, size=(min(at_once, resamples - start), sample.size))], axis=1)
        for start in range(0, resamples, at_once)
    ]
    low, high = percentiles(np.concatenate(found))
    return Interval(float(of(sample)), low, high)


def bootstrap_difference(left: Any, right: Any, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval | None:
    """The mean of `left` less that of `right`, both resampled by themselves; None where either has no values."""
    samples = [np.asarray(values, dtype=np.float64) for values in (left, right)]
    if not all(sample.size for sample in samples):
        return None
    means = [
        resampled_counts(sample.size, seed + index, resamples) @ sample / sample.size
        for index, sample in enumerate(samples)
    ]
    low, high = percentiles(means[0] - means[1])
    return Interval(float(samples[0].mean() - samples[1].mean()), low, high)


def bootstrap_root_mean_square(left: Any, right: Any, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval | None:
    """The root mean square over columns of the difference of two mean rows, both resampled by themselves.

    Args:
        left: `(pictures, columns)`.
        right: `(other pictures, columns)`.
        seed: of the resampling.
        resamples: how many.

    Returns:
        None where either side is empty.  Resampling adds to a figure that cannot be below 0, so the interval is the
        spread of the resampled figures moved onto the figure itself.
    """
    samples = [np.asarray(values, dtype=np.float64) for values in (left, right)]
    if not all(sample.size for sample in samples):
        return None
    means = [
        resampled_counts(len(sample), seed + index, resamples) @ sample / len(sample)
        for index, sample in enumerate(samples)
    ]
    value = float(np.sqrt(((samples[0].mean(axis=0) - samples[1].mean(axis=0)) ** 2).mean()))
    resampled = np.sqrt(((means[0] - means[1]) ** 2).mean(axis=1))
    low, high = percentiles(resampled - resampled.mean())
    return Interval(value, max(value + low, 0.0), max(value + high, 0.0))


def percentiles(resampled: Floats) -> tuple[float, float]:
    """The ends of the middle 95 % of resampled figures."""
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def resampled_counts(pictures: int, seed: int, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """How often each picture is drawn in each resample: `(resamples, pictures)`, rows summing to `pictures`."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=resamples)
