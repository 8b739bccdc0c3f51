"""Statistics over seeds, against scipy, closed forms and simulations."""

import itertools

import numpy as np
import pytest
from scipy.stats import false_discovery_control, permutation_test, trim_mean, ttest_1samp

from wplus.core.paired import paired_tests
from wplus.core.seed_stats import SEEDS, cluster_mean, sign_flip_p
from wplus.core.set_stats import improvement_probability, interquartile_mean
from wplus.core.stats import benjamini_hochberg, equivalence_p
from wplus.errors import UserError

RNG = np.random.default_rng(3)


def seed_mean(values):
    return SEEDS.means([np.asarray(values, dtype=np.float64)])[0]


def test_below_five_seeds_there_are_points_only():
    assert seed_mean([1.0, 2.0, 3.0, 4.0]).interval is None
    few = difference({0: 1.0, 1: 2.0, 7: 9.0}, {0: 0.5, 1: 1.0}, margin=1.0)
    assert (few.num_items, few.difference, few.interval, few.p, few.equivalent_p) == (2, 0.75, None, None, None)
    assert difference({0: 1.0}, {1: 1.0}) is None


def difference(values, baseline, margin=None):
    """Of the number x, seed by seed."""
    rows = [{str(seed): {"x": value} for seed, value in each.items()} for each in (values, baseline)]
    margins = {} if margin is None else {"x": margin}
    return paired_tests({"a": rows[0], "b": rows[1]}, "b", unit=SEEDS, margins=margins)["a"].get("x")


def test_differences_seed_by_seed_and_their_corrections():
    rng = np.random.default_rng(5)
    base = {str(seed): {"x": float(value)} for seed, value in enumerate(rng.normal(20, 3, size=7))}
    gains = {"much": 1.0, "little": 0.05, "none": 0.0}
    methods = {name: {seed: {"x": row["x"] + gain + 0.1 * float(rng.normal())} for seed, row in base.items()}
               for name, gain in gains.items()}  # fmt: skip
    found = paired_tests({"base": base, **methods}, "base", unit=SEEDS, margins={"x": 0.2})
    p = [found[name]["x"].p for name in gains]
    assert p[0] == 2 / 2**7  # all seven agree, and the spread of seeds is no part of it
    assert [found[name]["x"].q for name in gains] == pytest.approx(false_discovery_control(p).tolist())
    assert found["much"]["x"].p_holm == pytest.approx(3 * p[0])
    assert found["much"]["x"].difference == pytest.approx(1.0, abs=0.15)
    assert found["much"]["x"].equivalent_p > 0.99
    assert found["none"]["x"].equivalent_p < 0.01
    own = {"base": base, **methods, "other": methods["much"]}
    each = paired_tests(own, {"much": "other", "little": "base"}, unit=SEEDS)
    assert list(each) == ["much", "little"]
    assert each["much"]["x"].difference == 0


def test_few_seeds_whose_interval_and_test_disagree_are_marked():
    clear = difference(dict(enumerate([1.0, 1.1, 0.9, 1.2, 0.8])), dict.fromkeys(range(5), 0.0))
    assert clear.interval[0] > 0
    assert clear.p == 2 / 2**5  # no five seeds reach 0.05
    assert clear.is_at_odds
    assert not difference(dict(enumerate([1.0, 1.1, 0.9, 1.2, 0.8, 1.05])), dict.fromkeys(range(6), 0.0)).is_at_odds
    assert not difference(dict(enumerate([1.0, -1.1, 0.9, -1.2, 0.8])), dict.fromkeys(range(5), 0.0)).is_at_odds


def test_intervals_that_are_drawn_together_are_those_drawn_alone():
    samples = [RNG.normal(size=num) for num in (6, 8, 6, 3, 8)] + [np.full(6, 2.0)]
    for together, sample in zip(SEEDS.means(samples), samples, strict=True):
        alone = seed_mean(sample.tolist())
        assert together.value == alone.value
        # Up to one draw of 2000 that rounding puts on the other side of the mean.
        assert together.interval == (None if len(sample) < 5 else pytest.approx(alone.interval, abs=0.01))


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


def test_what_is_hard_about_an_image_is_hard_for_all_seeds():
    """A simulation: 6 seeds, the same 12 images. Drawing them seed by seed would forget that they are only 12."""
    covered = {True: 0, False: 0}
    for _ in range(60):
        seeds, images = RNG.normal(0, 0.1, size=(6, 1)), RNG.normal(0, 2, size=(1, 12))
        scores = seeds + images + RNG.normal(0, 0.2, size=(6, 12))
        for same in covered:
            low, high = cluster_mean(scores, same_images=same).interval
            covered[same] += low <= 0 <= high
    assert covered[True] >= 50
    assert covered[False] < 40
    found = cluster_mean(
        RNG.normal(0, 0.5, size=(200, 1)) + images + RNG.normal(0, 0.2, size=(200, 12)), same_images=True
    )
    assert found.seed_sd == pytest.approx(0.5, abs=0.08)
    with pytest.raises(UserError, match=r"as many for every seed, got \[2, 1\]"):
        cluster_mean([[1.0, 2.0], [1.0]], same_images=True)


def test_the_interquartile_mean_is_a_trimmed_one():
    scores = [RNG.normal(size=8), RNG.normal(2, size=8), RNG.normal(4, size=8)]
    found = interquartile_mean(scores)
    assert found.value == pytest.approx(trim_mean(np.concatenate(scores), 0.25))
    assert found.interval[0] < found.value < found.interval[1]
    assert interquartile_mean([[1.0], [2.0, 3.0]]).interval is None
    drawn = [trim_mean(np.concatenate([RNG.choice(each, size=8) for each in scores]), 0.25) for _ in range(1000)]
    assert found.interval == pytest.approx(np.percentile(drawn, (2.5, 97.5)), abs=0.15)


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
