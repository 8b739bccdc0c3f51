"""Statistics over seeds, against scipy, closed forms and simulations."""

import itertools

import numpy as np
import pytest
from scipy.stats import false_discovery_control, permutation_test, trim_mean, ttest_1samp

from wplus.sweeps.seed_stats import (
    benjamini_hochberg,
    cluster_mean,
    equivalence_p,
    improvement_probability,
    interquartile_mean,
    seed_difference,
    seed_mean,
    sign_flip_p,
)

RNG = np.random.default_rng(3)


def test_below_five_seeds_there_are_points_only():
    assert seed_mean([1.0, 2.0, 3.0, 4.0]).interval is None
    few = seed_difference({0: 1.0, 1: 2.0, 7: 9.0}, {0: 0.5, 1: 1.0}, margin=1.0)
    assert (few.num_seeds, few.difference, few.interval, few.p, few.equivalent_p) == (2, 0.75, None, None, None)
    assert seed_difference({0: 1.0}, {1: 1.0}) is None


def test_the_interval_over_seeds_covers_as_often_as_it_says():
    """A simulation: BCa with eight values is known to be somewhat short, never absurd."""
    covered = np.mean([low <= 0 <= high for low, high in
                       (seed_mean(RNG.normal(size=8).tolist()).interval for _ in range(200))])  # fmt: skip
    assert 0.84 <= covered <= 0.99
    assert seed_mean([2.0] * 6).interval == (2.0, 2.0)


@pytest.mark.parametrize("num", [5, 8, 10])
def test_sign_flips_are_scipys_permutations(num):
    d = np.random.default_rng(num).normal(0.5, size=num)
    theirs = permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(d) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_sign_flips_of_many_seeds_are_drawn():
    assert sign_flip_p(np.full(20, 1.0)) == pytest.approx(2**-16, rel=1.5)
    assert sign_flip_p(np.tile([1.0, -1.0], 10)) == 1.0


def test_the_same_up_to_a_margin():
    d = RNG.normal(0.02, 0.05, size=12)
    assert equivalence_p(d, 0.2) < 0.001 < 0.2 < equivalence_p(d, 0.01)
    one_sided = (ttest_1samp(d, -0.05, alternative="greater"), ttest_1samp(d, 0.05, alternative="less"))
    assert equivalence_p(d, 0.05) == pytest.approx(max(each.pvalue for each in one_sided))
    assert equivalence_p(d - 1, 0.2) > 0.99
    assert equivalence_p([0.1] * 5, 0.2) == 0.0
    assert equivalence_p([0.3] * 5, 0.2) == 1.0


def test_clusters_tell_the_spread_of_seeds_from_that_of_images():
    groups = [RNG.normal(center, 2.0, size=400) for center in RNG.normal(0, 0.5, size=60)]
    found = cluster_mean(groups)
    assert found.value == pytest.approx(np.mean([group.mean() for group in groups]))
    assert found.seed_sd == pytest.approx(0.5, abs=0.12)
    assert found.image_sd == pytest.approx(2.0, abs=0.05)
    reach = 1.96 * np.std([group.mean() for group in groups], ddof=1) / 60**0.5
    assert found.interval == pytest.approx((found.value - reach, found.value + reach), abs=0.03)
    assert cluster_mean(groups[:4]).interval is None
    few_images = cluster_mean([RNG.normal(center, 2.0, size=4) for center in RNG.normal(0, 0.5, size=400)])
    assert few_images.seed_sd == pytest.approx(0.5, abs=0.25)  # their means spread by 1.1
    alike = cluster_mean([[1.0, 3.0]] * 5)
    assert (alike.seed_sd, alike.image_sd) == (0.0, 2**0.5)


def test_the_interquartile_mean_is_a_trimmed_one():
    scores = [RNG.normal(size=8), RNG.normal(2, size=8), RNG.normal(4, size=8)]
    found = interquartile_mean(scores)
    assert found.value == pytest.approx(trim_mean(np.concatenate(scores), 0.25))
    assert found.interval[0] < found.value < found.interval[1]


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_the_probability_of_improvement_counts_pairs(higher_is_better):
    a, b = [[3.0, 1.0], [5.0, 5.0]], [[2.0, 1.0], [5.0, 6.0]]
    pairs = [[(x > y) + 0.5 * (x == y) for x, y in itertools.product(*each)] for each in zip(a, b, strict=True)]
    higher = np.mean([np.mean(each) for each in pairs])
    found = improvement_probability(a, b, higher_is_better=higher_is_better)
    assert found.value == pytest.approx(higher if higher_is_better else 1 - higher)
    with pytest.raises(ValueError, match="same data sets, got 2 and 1"):
        improvement_probability(a, b[:1], higher_is_better=True)


def test_the_rate_of_false_discoveries_is_scipys():
    p = [0.01, 0.2, 0.03, 0.001, 0.5]
    found = benjamini_hochberg([*p, None])
    assert found[-1] is None
    assert found[:-1] == pytest.approx(false_discovery_control(p).tolist())
