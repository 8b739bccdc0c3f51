"""Means and their bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest

from wplus.intervals import bootstrap_mean


def test_interval_is_that_of_the_normal_approximation():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    mean = bootstrap_mean(values)
    assert mean.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert mean.interval == pytest.approx((mean.value - half, mean.value + half), abs=0.03)


def test_interval_is_the_same_every_time_and_absent_for_one_value():
    assert bootstrap_mean([1, 2, 3]) == bootstrap_mean([1, 2, 3])
    assert bootstrap_mean([5.0]).interval is None
