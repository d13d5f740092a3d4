"""How much fine texture a picture holds: the radially averaged power spectrum of its luminance.

Frequencies are in cycles a pixel, 0 to 0.5, so the top octave is 0.25 to 0.5 at every size: the detail that a larger
picture has and an enlarged one lacks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BINS = 64
"""Rings of equal width between 0 and 0.5 cycles a pixel."""
TOP_OCTAVE = 0.25
OCTAVES = 3
"""The finest ones, whose power is compared with that of real pictures: 0.0625 cycles a pixel and finer."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Rec. ITU-R BT.709, on the values of the file (no gamma undone)."""
QUANTISATION = 1 / 12 / 255**2
"""Power that rounding to eight bits adds at each frequency (values 0 to 1); less than this cannot be measured."""


@dataclass(frozen=True)
class Spectrum:
    """The spectrum of one picture."""

    power: NDArray[np.float64]
    """`(BINS,)`: mean power spectral density in each ring; white noise of variance v has v in all of them."""
    top_octave: float
    """Mean power spectral density between 0.25 and 0.5 cycles a pixel."""


def spectrum(picture: Image.Image) -> Spectrum:
    """The radially averaged power spectrum of a picture's luminance (values 0 to 1), under a Hann window.

    The window keeps the borders, which do not join, from smearing power over all frequencies.

    Raises:
        ValueError: for a picture with a side under 16 pixels, which has too few frequencies.
    """
    if min(picture.size) < 16:
        raise ValueError(f"a spectrum needs sides of at least 16 pixels, not {picture.width}×{picture.height}")
    luminance = np.asarray(picture.convert("RGB"), dtype=np.float64) @ LUMINANCE / 255
    height, width = luminance.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    centred = (luminance - np.average(luminance, weights=window)) * window
    density = np.abs(np.fft.rfft2(centred)) ** 2 / (window**2).sum()
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    ring = np.minimum((radius * 2 * BINS).astype(int), BINS)  # what lies beyond 0.5 (the corners) falls in the last
    mirrored = np.full(density.shape, 2.0)  # rfft2 keeps one of each pair of conjugate columns
    mirrored[:, 0] = 1.0
    if width % 2 == 0:
        mirrored[:, -1] = 1.0
    weights = np.bincount(ring.ravel(), mirrored.ravel(), BINS + 1)[:BINS]
    totals = np.bincount(ring.ravel(), (mirrored * density).ravel(), BINS + 1)[:BINS]
    first = round(TOP_OCTAVE * 2 * BINS)
    power = np.divide(totals, weights, out=np.zeros(BINS), where=weights > 0)
    return Spectrum(power, float(totals[first:].sum() / weights[first:].sum()))


def sharpness(top_octave: object) -> NDArray[np.float64]:
    """log2 of power in the top octave, over what rounding to eight bits would hide.

    The difference of its mean over generated pictures and over real ones is the figure of the report: 0 is as sharp as
    real, −1 half the power of real detail, above 0 is noise or harshness.
    """
    values: NDArray[np.float64] = np.log2(np.asarray(top_octave, np.float64) + QUANTISATION)
    return values


def octaves(power: object) -> NDArray[np.float64]:
    """log2 of mean power in each of the finest `OCTAVES` octaves, the finest last, over what rounding hides.

    Args:
        power: `(…, BINS)`, as `Spectrum.power`.
    """
    rings = np.asarray(power, np.float64)
    around = np.arange(BINS) + 0.5  # about as many frequencies are in a ring
    edges = [round(TOP_OCTAVE * 2 * BINS / 2**octave) for octave in range(OCTAVES - 1, -1, -1)] + [BINS]
    means = [np.average(rings[..., a:b], axis=-1, weights=around[a:b]) for a, b in itertools.pairwise(edges)]
    found: NDArray[np.float64] = np.log2(np.stack(means, axis=-1) + QUANTISATION)
    return found
