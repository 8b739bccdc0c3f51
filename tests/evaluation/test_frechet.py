from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy import stats

from tests.fakes import measured
from wplus.errors import UserError
from wplus.evaluation import frechet
from wplus.evaluation.frechet import (
    FeatureStatistics,
    FrechetEstimates,
    FrechetReference,
    GroupedStatistics,
    fd,
    frechet_distance,
)
from wplus.evaluation.sampler import generate


def dealt(features, num_groups, batch_size=64):
    """Features in groups, as a pass deals them, in batches of whatever order."""
    groups = GroupedStatistics(num_groups)
    groups.begin(features.shape[1], len(features), "cpu")
    for rows in torch.randperm(len(features)).split(batch_size):
        groups.add(features[rows], rows)
    groups.merge()
    return groups


def gaussian(mean, covariance):
    """Statistics that have exactly this mean and covariance."""
    num = 100
    return FeatureStatistics(num, num * mean, (num - 1) * covariance + num * torch.outer(mean, mean))


def slow_distance(a, b):
    """The formula as written, by scipy's matrix square root."""
    root = scipy.linalg.sqrtm(a.covariance.numpy() @ b.covariance.numpy())
    squared = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance.numpy() + b.covariance.numpy() - 2 * root.real)
    return float(squared)


# Mean and covariance


def test_mean_and_covariance_equal_numpy():
    features = torch.randn(50, 6) * torch.arange(1, 7) + 100
    union = FeatureStatistics.of(features[:20]) + FeatureStatistics.of(features[20:])
    for found in (dealt(features, 1, batch_size=7).whole, union, union + union - union):
        assert found.num == 50
        np.testing.assert_allclose(found.mean, features.double().numpy().mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.covariance, np.cov(features.double().numpy(), rowvar=False), rtol=1e-8)


@pytest.mark.parametrize("batch_size", [1, 8, 62])
@pytest.mark.parametrize("rows_at_once", [2, 512], ids=["summed on the way", "summed at the end"])
def test_groups_are_dealt_by_row_and_survive_as_arrays(monkeypatch, batch_size, rows_at_once):
    monkeypatch.setattr(frechet, "ROWS_AT_ONCE", rows_at_once)
    features = torch.randn(62, 6)
    grouped, copy = dealt(features, 4, batch_size), GroupedStatistics(4)
    copy.restore(grouped.arrays())
    for groups in (grouped, copy):
        for index, group in enumerate(groups.groups):
            assert group.num == len(features[index::4])
            torch.testing.assert_close(group.total, features[index::4].double().sum(dim=0))
            torch.testing.assert_close(group.outer, features[index::4].double().T @ features[index::4].double())
        torch.testing.assert_close(groups.whole.covariance, FeatureStatistics.of(features).covariance)


def test_a_block_of_rows_stays_together():
    features, grouped = torch.randn(12, 6), GroupedStatistics(2, block=2)
    grouped.begin(6, 12, "cpu")
    grouped.add(features, torch.arange(12))
    grouped.merge()
    torch.testing.assert_close(next(grouped.groups).total, features[[0, 1, 4, 5, 8, 9]].double().sum(dim=0))
    assert grouped.key != GroupedStatistics(2).key


# The distance


def test_two_gaussians_whose_covariances_commute():
    """|m1 - m2|^2 + sum (s1 - s2)^2 in the common eigenbasis."""
    basis = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    s1, s2 = torch.tensor([1.0, 2, 3, 0, 5]).double(), torch.tensor([2.0, 2, 0.5, 1, 4]).double()
    m1, m2 = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    a, b = (gaussian(m, basis @ torch.diag(s**2) @ basis.T) for m, s in ((m1, s1), (m2, s2)))
    expected = float((m1 - m2).square().sum() + (s1 - s2).square().sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("num", [400, 12], ids=["full rank", "fewer images than features"])
def test_equals_scipy_and_is_symmetric(num):
    mix = torch.randn(20, 20)
    a, b = (FeatureStatistics.of(x) for x in (torch.randn(num, 20) @ mix, torch.randn(num, 20).exp() + 0.3))
    expected = slow_distance(a, b)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)
    assert 0 <= frechet_distance(a, a) < 1e-6 * expected


def test_a_set_of_one_point_repeated():
    """No variance at all: the squared distance of the points."""
    a, b = FeatureStatistics.of(torch.ones(5, 3)), FeatureStatistics.of(torch.full((5, 3), 3.0))
    assert frechet_distance(a, b) == pytest.approx(12.0)
    spread = gaussian(torch.ones(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    assert frechet_distance(a, spread) == pytest.approx(3.0)
    assert frechet_distance(spread, a) == pytest.approx(3.0)


# Extrapolation


SCALES = torch.arange(1, 25).double() ** -0.5  # standard deviations


def line_through_subsets(reference, samples, rng):
    """As Chong & Forsyth do it: 15 random subsets from a tenth of the samples up, least squares in 1 / N."""
    nums = np.linspace(len(samples) / 10, len(samples), 15).astype(int)
    subsets = [samples[torch.randperm(len(samples), generator=rng)[:num]] for num in nums]
    return np.polyfit(1 / nums, [reference.distance(FeatureStatistics.of(subset)) for subset in subsets], 1)[1]


def test_infinity_is_near_the_truth_and_its_interval_holds_it():
    """For Gaussians: all but a tenth of the bias goes, more than a line through small subsets removes."""
    rng, plain, found, subsets, num_held = torch.Generator().manual_seed(0), [], [], [], 0
    mean = torch.full((24,), 0.05, dtype=torch.float64)
    truth = float(mean.square().sum() + (0.1 * SCALES).square().sum())
    reference = FrechetReference(gaussian(0 * mean, torch.diag(SCALES**2)))
    for _ in range(25):
        samples = torch.randn(120, 24, generator=rng, dtype=torch.float64) * 1.1 * SCALES + mean
        estimates = FrechetEstimates(reference, dealt(samples, 10))
        value, (low, high) = estimates.at_infinity
        plain.append(estimates.value)
        found.append(value)
        subsets.append(line_through_subsets(reference, samples, rng))
        num_held += low <= truth <= high
    bias = {name: abs(np.mean(v) - truth) for name, v in {"N": plain, "inf": found, "15": subsets}.items()}
    assert bias["inf"] < 0.1 * bias["N"]
    assert bias["inf"] < bias["15"]
    assert np.std(found) < np.std(subsets)
    assert 22 <= num_held <= 25
    assert FrechetEstimates(reference, dealt(samples, 1)).interval is None


# The metric

FEW = {"num_generated": 24, "num_groups": 3}


def test_names_and_protocol(context, extractor):
    found = measured(context, fd, extractor=extractor, truncation_psi=0.7, **FEW)
    assert list(found) == ["fd_random_conv_psi0.7", "fd_random_conv_psi0.7_real_halves"]
    distance, floor = found.values()
    expected = {
        "extractor": "random_conv", "num_real": 40, "num_generated": 24, "data": context.real.fingerprint, "seed": 0,
        "truncation_psi": 0.7, "noise_mode": "const", "mirror": "none", "weights": "moving average",
        "generator": context.models.fingerprint,
    }  # fmt: skip
    assert expected.items() <= distance.protocol.items()
    assert floor.protocol["num_real"] == 20


def test_the_whole_metric_against_scipy_and_infinity_where_it_is_asked_for(context, extractor):
    images = generate(context.generator, range(24), seed=0)
    expected = slow_distance(*(FeatureStatistics.of(extractor(each)) for each in (context.real.images, images)))
    without = measured(context, fd, extractor=extractor, num_generated=24, num_groups=0)["fd_random_conv"]
    assert without.interval is None
    found = measured(context, fd, extractor=extractor, extrapolate=True, floor="none", **FEW)
    assert list(found) == ["fd_random_conv", "fd_random_conv_infinity"]
    plain, at_infinity = found.values()
    assert plain.value == pytest.approx(expected, rel=1e-6) == without.value
    assert at_infinity.value < plain.value
    assert at_infinity.interval[0] < at_infinity.value < at_infinity.interval[1]
    assert "3 and 2 groups" in at_infinity.protocol["extrapolation"]


def test_the_floor_is_the_distance_of_two_halves_of_the_real_images(context, extractor):
    """Every other image in the order of their digests; with the jackknife over five groups of each."""
    order = np.lexsort(context.real.digests.T[::-1])
    halves = [extractor(context.real.images[torch.from_numpy(order)])[start::2] for start in range(2)]

    def distance(*left_out):
        kept = [torch.arange(20) % 5 != group if group is not None else slice(None) for group in left_out]
        return slow_distance(*(FeatureStatistics.of(half[rows]) for half, rows in zip(halves, kept, strict=True)))

    found = measured(context, fd, extractor=extractor, **FEW)["fd_random_conv_real_halves"]
    assert found.value == pytest.approx(distance(None, None), rel=1e-6)
    assert found.value > 0
    without = [distance(group, None) for group in range(5)], [distance(None, group) for group in range(5)]
    reach = stats.t.ppf(0.975, 8) * np.sqrt(sum(4 * np.var(values) for values in without))
    assert found.interval == pytest.approx((max(found.value - reach, 0), found.value + reach), rel=1e-5)
    assert "5 groups of each half" in found.protocol["interval"]
    assert (found.protocol["num_real"], found.protocol["num_other_real"]) == (20, 20)
    for few in ({"num_real": 19}, {"num_groups": 0}):
        floor = measured(context, fd, extractor=extractor, **FEW | few)["fd_random_conv_real_halves"]
        assert floor.value > 0
        assert floor.interval is None


def test_mirror_doubles_the_real_images(context, extractor):
    options = {"extractor": extractor, "num_generated": 24, "num_groups": 0}
    found = measured(context, fd, mirror="x", **options)["fd_random_conv_mirror"]
    context.real.images = torch.cat([context.real.images, context.real.images.flip(3)])
    both = measured(replace(context), fd, **options)["fd_random_conv"]
    assert found.value == pytest.approx(both.value, rel=1e-9)
    assert found.protocol["num_real"] == 80


def test_the_jackknife_covers_the_spread_of_seeds(context, extractor):
    options = {"extractor": extractor, "num_generated": 200, "floor": "none"}
    runs = [measured(replace(context, seed=seed, batch_size=100), fd, **options) for seed in range(6)]
    found = [run["fd_random_conv"] for run in runs]
    spread = np.std([m.value for m in found], ddof=1)
    reach = np.mean([(m.interval[1] - m.interval[0]) / 2 for m in found])
    assert 0.5 < reach / (2.26 * spread) < 2.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_generated": 5, "num_groups": 3}, "num_groups must be 0 .* got 3 for 5 generated images"),
        ({"num_groups": 1}, "num_groups must be .* got 1"),
        ({"num_groups": 0, "extrapolate": True}, "extrapolate=true needs groups"),
        ({"mirror": "y"}, "mirror must be one of none, x, got 'y'"),
        ({"floor": "sea"}, "floor must be one of none, halves, got 'sea'"),
        ({"num_real": 41}, "num_real must be from 1 to the 40 real images that are given, got 41"),
        ({"num_real": 3}, "num_real must be at least 4 .* got 3"),
        ({"noise_mode": "loud"}, "noise_mode must be one of const, random, none, got 'loud'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_made(context, extractor, options, words):
    with pytest.raises(UserError, match=words):
        fd(context, extractor=extractor, **FEW | options)
    with pytest.raises(UserError, match="the 0 real images that are given"):
        fd(replace(context, real=None), extractor=extractor, **FEW)
