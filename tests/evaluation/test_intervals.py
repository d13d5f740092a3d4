"""Bootstrap intervals: the right figure, the right width, and nothing left to chance."""

from __future__ import annotations

import numpy as np
import pytest

from scalecrafter.evaluation.intervals import bootstrap, bootstrap_difference, resampled_counts


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = bootstrap(values)
    assert found is not None
    assert found.value == pytest.approx(values.mean(), abs=1e-12)
    margin = 1.96 * values.std() / np.sqrt(400)
    assert found.low == pytest.approx(values.mean() - margin, abs=0.1 * margin)
    assert found.high == pytest.approx(values.mean() + margin, abs=0.1 * margin)


def test_nineteen_in_twenty_intervals_of_a_rate_hold_the_true_rate() -> None:
    rng = np.random.default_rng(1)
    found = [bootstrap(rng.random(80) < 0.7, resamples=400, seed=trial) for trial in range(300)]
    held = np.mean([interval is not None and interval.low <= 0.7 <= interval.high for interval in found])
    assert 0.9 <= held <= 0.99


def test_the_median_is_not_moved_by_one_slow_picture() -> None:
    found = bootstrap([1.0] * 40 + [1000.0], "median")
    assert found is not None
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_values_that_are_all_alike_have_an_interval_of_no_width() -> None:
    found = bootstrap([True] * 20)
    assert found is not None
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)


def test_no_values_have_no_figure() -> None:
    assert bootstrap([]) is None
    assert bootstrap_difference([], [1.0, 2.0]) is None


def test_many_values_are_resampled_in_parts_with_the_same_right_width() -> None:
    values = np.random.default_rng(2).normal(size=30_000)
    found = bootstrap(values, resamples=300)
    assert found is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 / np.sqrt(30_000), rel=0.2)


def test_the_same_seed_gives_the_same_interval_and_another_one_another() -> None:
    values = np.random.default_rng(3).random(50)
    assert bootstrap(values, seed=5) == bootstrap(values, seed=5)
    assert bootstrap(values, seed=5) != bootstrap(values, seed=6)


def test_the_interval_of_a_difference_has_the_spread_of_both_sides() -> None:
    rng = np.random.default_rng(4)
    left, right = rng.normal(5, 1, 200), rng.normal(2, 3, 300)
    found = bootstrap_difference(left, right)
    assert found is not None
    assert found.value == pytest.approx(left.mean() - right.mean())
    margin = 1.96 * np.sqrt(left.var() / 200 + right.var() / 300)
    assert found.high - found.low == pytest.approx(2 * margin, rel=0.1)


def test_resamples_draw_as_many_pictures_as_there_are() -> None:
    counts = resampled_counts(13, seed=0, resamples=50)
    assert counts.shape == (50, 13)
    assert set(counts.sum(axis=1)) == {13}
    assert len({tuple(row) for row in counts}) > 40
