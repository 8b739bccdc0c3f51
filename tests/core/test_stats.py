"""Intervals, and comparisons on the same items: against enumeration of every sign, against scipy, and by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import rankdata, wilcoxon

from wplus.core.paired import ITEMS, paired_tests
from wplus.core.stats import (
    MIN_ITEMS,
    bootstrap_interval,
    bootstrap_mean,
    holm,
    kept_mean,
    rank_biserial,
    signed_rank_p,
)
from wplus.errors import UserError


def test_interval_is_that_of_the_normal_approximation_and_the_same_every_time():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    mean, reach = bootstrap_mean(values), 1.96 * values.std() / 20
    assert mean.value == pytest.approx(values.mean())
    again = bootstrap_interval(values, lambda rows: rows.mean(axis=-1), seed=0, num_resamples=1000)
    for interval in (mean.interval, again):
        assert interval == pytest.approx((mean.value - reach, mean.value + reach), abs=0.15 * reach)
    assert bootstrap_mean(values) == mean
    assert bootstrap_mean([5.0]).interval is None


def test_percentiles_keep_values_that_occur():
    values = np.random.default_rng(0).normal(size=(3, 250))
    ordered = np.sort(values, axis=1)
    low, high = ordered[:, [math.floor(0.01 * 249)]], ordered[:, [math.ceil(0.99 * 249)]]
    expected = [row[(row >= a) & (row <= b)].mean() for row, a, b in zip(values, low, high, strict=True)]
    np.testing.assert_allclose(kept_mean(values), expected, rtol=1e-12)
    assert kept_mean(np.array([5.0])) == 5


def p_by_enumeration(differences: np.ndarray) -> float:
    """Share of all sign patterns whose rank sum is as far from its mean as the one that was seen."""
    d = differences[differences != 0]
    ranks = rankdata(np.abs(d))
    seen = abs((ranks * np.sign(d)).sum())
    sums = [abs(np.dot(ranks, signs)) for signs in itertools.product((-1, 1), repeat=len(d))]
    return float(np.mean([each >= seen - 1e-9 for each in sums]))


@pytest.mark.parametrize("seed", range(4))
def test_p_is_the_share_of_sign_patterns_ties_and_zeros_included(seed):
    rng = np.random.default_rng(seed)
    without_ties = rng.normal(0.3, 1, size=11)
    with_ties = rng.integers(-3, 5, size=12).astype(float)
    for differences in (without_ties, with_ties):
        assert signed_rank_p(differences) == pytest.approx(p_by_enumeration(differences), rel=1e-12)


@pytest.mark.parametrize("num", [20, 50, 51, 200])
def test_p_of_many_is_that_of_scipy(num):
    differences = np.random.default_rng(num).normal(0.2, 1, size=num)
    assert signed_rank_p(differences) == pytest.approx(wilcoxon(differences).pvalue, rel=1e-9)


def paired(values, baseline):
    """Compare a method's values (N,) with the baseline's on the same items."""
    return ITEMS.differences([np.subtract(values, baseline)], seed=0)[0]


def test_equal_methods_are_not_told_apart():
    found = paired([1.0] * 8, [1.0] * 8)
    assert (found.difference, found.interval, found.higher, found.effect, found.p) == (0, (0, 0), 0.5, 0, 1)


def test_a_method_that_is_always_higher():
    found = paired(np.arange(12) + 2.0, np.arange(12))
    assert (found.num_items, found.difference, found.interval) == (12, 2, (2, 2))
    assert (found.higher, found.effect, found.p) == (1, 1, pytest.approx(2 / 2**12))
    turned = paired(np.arange(12), np.arange(12) + 2.0)
    assert (turned.difference, turned.higher, turned.effect, turned.p) == (-2, 0, -1, found.p)


def test_few_items_cannot_be_tested():
    few = paired(np.arange(MIN_ITEMS - 1) + 1.0, np.zeros(MIN_ITEMS - 1))
    assert few.p is None
    assert few.interval is not None
    assert paired([1.0], [0.0]).interval is None
    assert paired(np.arange(MIN_ITEMS) + 1.0, np.zeros(MIN_ITEMS)).p == 2 / 2**MIN_ITEMS <= 0.05


def test_effect_by_hand():
    # Sizes 1, 2, 2, 4 have the ranks 1, 2.5, 2.5, 4; the zero has none.
    assert rank_biserial([1, -2, 2, 4, 0]) == pytest.approx((1 - 2.5 + 2.5 + 4) / 10)


def test_holm_by_hand_in_the_old_order():
    # Sorted: 0.01 * 4, 0.02 * 3, max(0.06, 0.03 * 2), max(0.06, 0.04); untested ones do not count.
    assert holm([0.04, 0.01, None, 0.03, 0.02]) == [
        pytest.approx(x) if x else None for x in (0.06, 0.04, None, 0.06, 0.06)
    ]
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_methods_against_a_baseline_on_common_items():
    base = {str(i): {"psnr_db": float(i), "lpips": 1.0} for i in range(8)}
    better = {name: {"psnr_db": row["psnr_db"] + 1, "lpips": 1.0, "lec": 3.0} for name, row in base.items()}
    better["only here"] = {"psnr_db": 99.0}
    found = paired_tests({"base": base, "better": better, "same": base}, "base")
    assert [(method, *columns) for method, columns in found.items()] == [
        ("better", "psnr_db", "lpips"), ("same", "psnr_db", "lpips")
    ]  # fmt: skip
    psnr = found["better"]["psnr_db"]
    assert (psnr.num_items, psnr.difference) == (8, 1)
    assert psnr.p_holm == pytest.approx(4 * 2 / 2**8)  # four comparisons were made
    assert found["same"]["psnr_db"].p_holm == 1
    alone = paired_tests({"base": base, "better": better}, "base", columns=["psnr_db"])
    assert alone["better"]["psnr_db"].p_holm == pytest.approx(2 / 2**8)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UserError, match="must be finite"):
        paired_tests({"a": {"x": {"l2": math.nan}}, "b": {"x": {"l2": 1.0}}}, "b")
    with pytest.raises(UserError, match="baseline must be one of a, got 'x'"):
        paired_tests({"a": {}}, "x")
