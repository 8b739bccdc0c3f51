"""Means, their bootstrap intervals, and what the percentiles leave."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wplus.core.stats import bootstrap_interval, bootstrap_mean, kept_mean


def test_interval_is_that_of_the_normal_approximation():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    mean = bootstrap_mean(values)
    assert mean.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert mean.interval == pytest.approx((mean.value - half, mean.value + half), abs=0.03)


def test_interval_is_the_same_every_time_and_absent_for_one_value():
    assert bootstrap_mean([1, 2, 3]) == bootstrap_mean([1, 2, 3])
    assert bootstrap_mean([5.0]).interval is None


def test_interval_of_any_statistic():
    x = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(x, lambda rows: rows.mean(axis=-1), seed=0)
    reach = 1.96 * x.std() / 20
    assert (low, high) == pytest.approx((x.mean() - reach, x.mean() + reach), abs=0.15 * reach)
    assert bootstrap_interval(x, lambda rows: rows.mean(axis=-1), seed=0) == (low, high)


def test_percentiles_keep_values_that_occur():
    values = np.random.default_rng(0).normal(size=(3, 250))
    ordered = np.sort(values, axis=1)
    low, high = ordered[:, [math.floor(0.01 * 249)]], ordered[:, [math.ceil(0.99 * 249)]]
    expected = [row[(row >= a) & (row <= b)].mean() for row, a, b in zip(values, low, high, strict=True)]
    np.testing.assert_allclose(kept_mean(values), expected, rtol=1e-12)
    assert kept_mean(np.array([5.0])) == 5
