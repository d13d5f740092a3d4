"""FID and KID against a slow reference with SciPy and loops."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from scalecrafter.evaluation.distances import fid, kid, weighted_fid
from scalecrafter.evaluation.intervals import Floats

SHAPES = [(40, 5), (9, 30), (2, 3)]


def two_sets(pictures: int, dimensions: int, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimensions, dimensions))
    return rng.normal(size=(pictures, dimensions)) @ mixing + 0.5, rng.normal(size=(pictures, dimensions))


def plain_fid(left: Floats, right: Floats) -> float:
    """The definition; covariances of few pictures are singular, and sqrtm takes its word for those from a ridge."""
    covariances = [np.cov(side, rowvar=False) + 1e-10 * np.eye(side.shape[1]) for side in (left, right)]
    root = sqrtm(covariances[0] @ covariances[1])
    difference = left.mean(axis=0) - right.mean(axis=0)
    return float(difference @ difference + np.trace(covariances[0] + covariances[1] - 2 * root.real))


def plain_kid(left: Floats, right: Floats) -> float:
    def kernel(x: Floats, y: Floats) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    def within(side: Floats) -> float:
        pairs = [kernel(x, y) for (i, x), (j, y) in product(enumerate(side), repeat=2) if i != j]
        return float(np.mean(pairs))

    return within(left) + within(right) - 2 * float(np.mean([kernel(x, y) for x, y in product(left, right)]))


@pytest.mark.parametrize(("pictures", "dimensions"), SHAPES)
def test_fid_is_the_frechet_distance_of_its_definition(pictures: int, dimensions: int) -> None:
    left, right = two_sets(pictures, dimensions)
    assert fid(left, right, resamples=10).value == pytest.approx(plain_fid(left, right), rel=2e-4)


@pytest.mark.parametrize(("pictures", "dimensions"), SHAPES)
def test_kid_is_the_unbiased_kernel_distance_of_its_definition(pictures: int, dimensions: int) -> None:
    left, right = two_sets(pictures, dimensions)
    assert kid(left, right, resamples=10).value == pytest.approx(plain_kid(left, right), rel=1e-9)


@pytest.mark.parametrize(("pictures", "dimensions"), SHAPES)
def test_the_form_that_is_resampled_is_the_same_distance(pictures: int, dimensions: int) -> None:
    left, right = two_sets(pictures, dimensions, seed=1)
    once = np.ones(pictures, int)
    assert weighted_fid(left, right, once, once) == pytest.approx(fid(left, right, resamples=10).value, rel=1e-6)


def test_a_picture_that_counts_twice_is_a_picture_that_is_there_twice() -> None:
    left, right = two_sets(12, 6)
    rng = np.random.default_rng(2)
    counts = [rng.multinomial(12, np.full(12, 1 / 12)) for _ in range(2)]
    repeated = [np.repeat(side, count, axis=0) for side, count in zip((left, right), counts, strict=True)]
    assert weighted_fid(left, right, *counts) == pytest.approx(plain_fid(*repeated), rel=1e-4)


def test_a_set_has_no_distance_to_itself_and_a_farther_one_has_more() -> None:
    left, _ = two_sets(60, 8)
    assert fid(left, left, resamples=10).value == pytest.approx(0, abs=1e-6)
    assert kid(left, left, resamples=10).value < 0  # unbiased: the pairs with themselves are left out on one side
    for distance in (fid, kid):
        near, far = (distance(left + shift, left, resamples=10).value for shift in (0.5, 2.0))
        assert near < far


@pytest.mark.slow
def test_intervals_hold_the_expected_distance() -> None:
    """Of the distance over this many pictures, which for FID is not that over infinitely many."""
    rng = np.random.default_rng(3)

    def draw(shift: float) -> Floats:
        return rng.normal(size=(24, 6)) + shift

    once = np.ones(24, int)
    expected = {
        fid: np.mean([weighted_fid(draw(0.6), draw(0.0), once, once) for _ in range(600)]),
        kid: np.mean([plain_kid(draw(0.6), draw(0.0)) for _ in range(60)]),
    }
    for distance, truth in expected.items():
        found = [distance(draw(0.6), draw(0.0), seed=trial, resamples=150) for trial in range(40)]
        assert np.mean([interval.low <= truth <= interval.high for interval in found]) >= 0.9
        assert all(interval.low <= interval.value <= interval.high for interval in found)


def test_what_is_of_one_picture_is_drawn_or_left_together() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.3, 1, (40, 3)), rng.normal(0, 1, (40, 3))
    alone, twice = fid(ours, theirs), [side.repeat(2, axis=0) for side in (ours, theirs)]
    together, torn = fid(*twice, each=2), fid(*twice)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.05)
    assert torn.high - torn.low < 0.9 * (alone.high - alone.low)  # as if there were twice as many pictures


def test_the_interval_tightens_with_more_pictures() -> None:
    for distance in (fid, kid):
        few, many = (distance(*two_sets(pictures, 4), resamples=200) for pictures in (20, 320))
        assert many.high - many.low < 0.5 * (few.high - few.low)


@pytest.mark.slow
def test_more_than_a_thousand_pictures_are_compared_in_subsets_that_a_seed_decides() -> None:
    left, right = two_sets(1100, 3)
    state = torch.random.get_rng_state()
    once, again = (kid(left, right, seed=4, resamples=2).value for _ in range(2))
    assert once == again
    assert once == pytest.approx(kid(left[:1000], right[:1000], resamples=2).value, rel=0.2)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("shapes", [((5, 3), (6, 3)), ((5, 3), (5, 4)), ((1, 3), (1, 3))])
def test_sets_that_do_not_compare_are_refused(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="equally many"):
        fid(*(np.zeros(shape) for shape in shapes))
