"""The two distances between sets of pictures, FID and KID, over features that any extractor made.

torchmetrics computes the distances; its extractor is the identity, because the features exist already. The intervals
need thousands of resamples. For them, both distances are written here in a form that a resample only re-weights.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from .intervals import RESAMPLES, Floats, Interval, percentiles, resampled_counts

KID_SUBSET = 1000
"""Above this many pictures KID is the mean over 100 subsets of this size, as its authors do; below, over all."""


class _Ready(torch.nn.Identity):
    """An extractor for torchmetrics that returns the features it gets."""

    num_features: int

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.num_features = dimensions


def fid(features: Any, reference: Any, *, each: int = 1, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Fréchet distance of two sets of features (Heusel et al. 2017, arXiv 1706.08500) with its bootstrap interval.

    Args:
        features: of the measured pictures, `(pictures, dimensions)`.
        reference: of equally many pictures to compare with.
        each: how many in a row belong to one picture (its crops). A resample draws them together.
        seed: of the resampling.
        resamples: how many.

    Returns:
        The distance as torchmetrics computes it.  With few pictures it is too large by an amount that falls with
        their number, so only figures over equally many pictures compare.  A resample repeats pictures and would add
        that bias once more, so the interval is the spread of the resampled distances moved onto the distance itself.

    Raises:
        ValueError: for sets of different size, or of fewer than two pictures.
    """
    ours, theirs = _pair(features, reference)
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Ready(ours.shape[1]))
    value = _updated(metric, ours, theirs).compute().item()
    counts = (resampled_counts(len(ours) // each, s, resamples).repeat(each, axis=1) for s in (seed, seed + 1))
    resampled = np.array([weighted_fid(ours, theirs, *pair) for pair in zip(*counts, strict=True)])
    low, high = percentiles(resampled - resampled.mean())
    return Interval(max(value, 0.0), max(value + low, 0.0), max(value + high, 0.0))


def weighted_fid(features: Floats, reference: Floats, counts: Any, reference_counts: Any) -> float:
    """The Fréchet distance of two sets in which picture i stands `counts[i]` times.

    With A and B the centred features over √(n − 1), the trace of √(Σ_A Σ_B) is the sum of the singular values of
    A Bᵀ: a small matrix, of (distinct) pictures by pictures or, where there are more of them, dimensions by dimensions,
    with the triangles of their QR decompositions in the places of A and B, which have the same covariances.
    """
    mean, centred = _centred(features, counts)
    reference_mean, reference_centred = _centred(reference, reference_counts)
    common = np.linalg.svd(_triangle(centred) @ _triangle(reference_centred).T, compute_uv=False).sum()
    spread = (centred**2).sum() + (reference_centred**2).sum()
    return float(((mean - reference_mean) ** 2).sum() + spread - 2 * common)


def _triangle(centred: Floats) -> Floats:
    """As many rows as dimensions at most, with the same covariance."""
    rows, dimensions = centred.shape
    triangle: Floats = np.linalg.qr(centred).R if rows > dimensions else centred
    return triangle


def kid(features: Any, reference: Any, *, each: int = 1, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Kernel distance of two sets of features (Bińkowski et al. 2018, arXiv 1801.01401) with its bootstrap interval.

    Unbiased, so it may come out below 0; arguments and errors as for `fid`. In a resample, a picture paired with its
    own copy has no information about the kernel between different pictures: such pairs are left out.  So are pairs of
    crops of one picture (`each`), which are more alike than those of two, and resamples that drew one picture alone.
    """
    ours, theirs = _pair(features, reference)
    size = len(ours) // each
    within = (_of_pictures(_kernel(ours, ours), each), _of_pictures(_kernel(theirs, theirs), each))
    between = _of_pictures(_kernel(ours, theirs), each)
    if each == 1:
        value = _published_kid(ours, theirs, seed)
    else:
        once = np.ones((1, size))
        value = float(_weighted_kid(within, between, (once, once))[0])
    weights, others = (resampled_counts(size, s, resamples).astype(np.float64) for s in (seed, seed + 1))
    resampled = _weighted_kid(within, between, (weights, others))
    low, high = percentiles(resampled[np.isfinite(resampled)]) if np.isfinite(resampled).any() else (value, value)
    return Interval(value, low, high)


def _published_kid(ours: Floats, theirs: Floats, seed: int) -> float:
    """As torchmetrics computes it."""
    from torchmetrics.image.kid import KernelInceptionDistance

    size = len(ours)
    subsets, subset_size = (1, size) if size <= KID_SUBSET else (100, KID_SUBSET)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # that it keeps all features, which are few
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(feature=_Ready(ours.shape[1]), subsets=subsets, subset_size=subset_size)
        return float(_updated(metric, ours, theirs).compute()[0].item())


def _weighted_kid(within: tuple[Floats, Floats], between: Floats, weights: tuple[Floats, Floats]) -> Floats:
    """The distance for each row of weights of the two sides, from the mean kernels between pictures."""
    across = np.einsum("ri,ij,rj->r", weights[0], between, weights[1], optimize=True)
    total = weights[0].sum(axis=1) * weights[1].sum(axis=1)
    distance: Floats = _within(within[0], weights[0]) + _within(within[1], weights[1]) - 2 * across / total
    return distance


def _of_pictures(kernel: Floats, each: int) -> Floats:
    """The mean kernel between the views of one picture and those of another, `each` in a row belonging to one."""
    pictures: Floats = kernel.reshape(len(kernel) // each, each, -1, each).mean(axis=(1, 3))
    return pictures


def _within(kernel: Floats, weights: Floats) -> Floats:
    """Mean kernel over pairs of different pictures, for each row of weights; NaN where a resample drew only one."""
    kernel = kernel.copy()
    np.fill_diagonal(kernel, 0.0)
    pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
    total = np.einsum("ri,ij,rj->r", weights, kernel, weights, optimize=True)
    mean: Floats = np.divide(total, pairs, out=np.full_like(total, np.nan), where=pairs > 0)
    return mean


def _kernel(left: Floats, right: Floats) -> Floats:
    kernel: Floats = (left @ right.T / left.shape[1] + 1.0) ** 3
    return kernel


def _centred(features: Floats, counts: Any) -> tuple[Floats, Floats]:
    """The weighted mean, and the drawn pictures' differences from it, scaled so that their square is the covariance."""
    drawn = counts > 0
    kept, weights = features[drawn], counts[drawn].astype(np.float64)
    mean: Floats = weights @ kept / weights.sum()
    centred: Floats = (kept - mean) * np.sqrt(weights / (weights.sum() - 1))[:, None]
    return mean, centred


def _pair(features: Any, reference: Any) -> tuple[Floats, Floats]:
    ours, theirs = np.asarray(features, np.float64), np.asarray(reference, np.float64)
    if ours.ndim != 2 or ours.shape != theirs.shape or len(ours) < 2:
        raise ValueError(
            f"a distance needs two sets of at least two pictures each, equally many, "
            f"with features of one length; these are {ours.shape} and {theirs.shape}"
        )
    return ours, theirs


def _updated(metric: Any, ours: Floats, theirs: Floats) -> Any:
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(theirs), real=True)
    metric.update(torch.from_numpy(ours), real=False)
    return metric
