from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy import stats

from wplus.core.metric_result import MetricResult
from wplus.errors import UserError
from wplus.evaluation.bench import EvalContext
from wplus.evaluation.frechet import FrechetDistance, FrechetEstimates, FrechetReference, frechet_distance
from wplus.evaluation.measure import measure
from wplus.evaluation.sampler import generate
from wplus.evaluation.statistics import FeatureStatistics, GroupedStatistics


def statistics_of(features: torch.Tensor) -> FeatureStatistics:
    statistics = FeatureStatistics.empty(features.shape[1])
    statistics.add(features)
    return statistics


def dealt(features: torch.Tensor, num_groups: int) -> GroupedStatistics:
    groups = GroupedStatistics(num_groups)
    groups.begin(features.shape[1], len(features), "cpu")
    groups.add(features, torch.arange(len(features)))
    groups.merge()
    return groups


def gaussian(mean: torch.Tensor, covariance: torch.Tensor) -> FeatureStatistics:
    """Statistics that have exactly this mean and covariance."""
    num = 100
    return FeatureStatistics(num, num * mean, (num - 1) * covariance + num * torch.outer(mean, mean))


def slow_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """The formula as written, by scipy's matrix square root."""
    root = scipy.linalg.sqrtm(a.covariance.numpy() @ b.covariance.numpy())
    squared = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance.numpy() + b.covariance.numpy() - 2 * root.real)
    return float(squared)


def test_two_gaussians_whose_covariances_commute() -> None:
    """|m1 - m2|^2 + sum (s1 - s2)^2 in the common eigenbasis."""
    basis = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    s1, s2 = torch.tensor([1.0, 2, 3, 0, 5]).double(), torch.tensor([2.0, 2, 0.5, 1, 4]).double()
    m1, m2 = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    a, b = (gaussian(m, basis @ torch.diag(s**2) @ basis.T) for m, s in ((m1, s1), (m2, s2)))
    expected = float((m1 - m2).square().sum() + (s1 - s2).square().sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("num", [400, 12], ids=["full rank", "fewer images than features"])
def test_equals_scipy(num: int) -> None:
    mix = torch.randn(20, 20)
    a, b = statistics_of(torch.randn(num, 20) @ mix), statistics_of(torch.randn(num, 20).exp() + 0.3)
    expected = slow_distance(a, b)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)


def test_a_set_of_one_point_repeated() -> None:
    """No variance at all: the squared distance of the points."""
    a, b = statistics_of(torch.ones(5, 3)), statistics_of(torch.full((5, 3), 3.0))
    assert frechet_distance(a, b) == pytest.approx(12.0)
    spread = gaussian(torch.ones(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    assert frechet_distance(a, spread) == pytest.approx(3.0)
    assert frechet_distance(spread, a) == pytest.approx(3.0)


def test_a_set_has_no_distance_from_itself() -> None:
    a = statistics_of(torch.randn(50, 20))
    assert 0 <= frechet_distance(a, a) < 1e-6


# Extrapolation


SCALES = torch.arange(1, 25).double() ** -0.5  # standard deviations


def truth_and_draw(rng: torch.Generator, num: int) -> tuple[float, FeatureStatistics, torch.Tensor]:
    """A distance known exactly, the one side as it is, and samples of the other."""
    mean = torch.full((24,), 0.05, dtype=torch.float64)
    truth = float(mean.square().sum() + (0.1 * SCALES).square().sum())
    samples = torch.randn(num, 24, generator=rng, dtype=torch.float64) * 1.1 * SCALES + mean
    return truth, gaussian(torch.zeros(24, dtype=torch.float64), torch.diag(SCALES**2)), samples


def line_through_subsets(reference: FrechetReference, samples: torch.Tensor, rng: torch.Generator) -> float:
    """As Chong & Forsyth do it: 15 random subsets from a tenth of the samples up, least squares in 1 / N."""
    nums = np.linspace(len(samples) / 10, len(samples), 15).astype(int)
    subsets = [samples[torch.randperm(len(samples), generator=rng)[:num]] for num in nums]
    return float(np.polyfit(1 / nums, [reference.distance(statistics_of(subset)) for subset in subsets], 1)[1])


def test_infinity_is_near_the_truth_and_its_interval_holds_it() -> None:
    """For Gaussians: all but a tenth of the bias goes, more than a line through small subsets removes."""
    rng, plain, found, subsets, num_held = torch.Generator().manual_seed(0), [], [], [], 0
    for _ in range(25):
        truth, exact, samples = truth_and_draw(rng, 120)
        reference = FrechetReference(exact)
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


def test_one_group_has_no_interval() -> None:
    _, exact, samples = truth_and_draw(torch.Generator().manual_seed(0), 50)
    assert FrechetEstimates(FrechetReference(exact), dealt(samples, 1)).interval is None


# The metric


def measured(bench: EvalContext, extractor: Any, **options: Any) -> dict[str, MetricResult]:
    options = {"num_generated": 24, "num_groups": 3, **options}
    metric = FrechetDistance(extractor=extractor, **options)
    return {m.name: m for m in measure(bench, {"fd": metric})}


def test_names_and_protocol(bench: EvalContext, extractor: Any) -> None:
    found = measured(bench, extractor, truncation_psi=0.7)
    assert list(found) == ["fd_random_conv_psi0.7", "fd_random_conv_psi0.7_real_halves"]
    protocol = found["fd_random_conv_psi0.7"].protocol
    expected = {
        "extractor": "random_conv", "num_real": 40, "num_generated": 24, "data": bench.real.fingerprint, "seed": 0,
        "truncation_psi": 0.7, "noise_mode": "const", "mirror": "none", "weights": "moving average",
        "generator": bench.models.fingerprint,
    }  # fmt: skip
    assert expected.items() <= protocol.items()
    low, high = found["fd_random_conv_psi0.7"].interval
    assert low <= found["fd_random_conv_psi0.7"].value <= high
    assert found["fd_random_conv_psi0.7_real_halves"].protocol["num_real"] == 20


def test_infinity_where_it_is_asked_for(bench: EvalContext, extractor: Any) -> None:
    found = measured(bench, extractor, extrapolate=True, floor="none")
    assert list(found) == ["fd_random_conv", "fd_random_conv_infinity"]
    at_infinity = found["fd_random_conv_infinity"]
    assert at_infinity.value < found["fd_random_conv"].value
    assert at_infinity.interval[0] < at_infinity.value < at_infinity.interval[1]
    assert "3 and 2 groups" in at_infinity.protocol["extrapolation"]


def test_the_whole_metric_against_scipy(bench: EvalContext, extractor: Any) -> None:
    images = generate(bench.models.generator, range(24), seed=0)
    expected = slow_distance(statistics_of(extractor(bench.real.images)), statistics_of(extractor(images)))
    value = measured(bench, extractor, num_groups=0)["fd_random_conv"].value
    assert value == pytest.approx(expected, rel=1e-6)


def test_order_and_batch_size_change_nothing(bench: EvalContext, extractor: Any) -> None:
    found = measured(bench, extractor, mirror="x", num_real=25)
    bench.real.images = bench.real.images[torch.randperm(40)]
    others = measured(replace(bench, batch_size=5), extractor, mirror="x", num_real=25)
    for name, measurement in found.items():
        assert others[name].value == pytest.approx(measurement.value, rel=1e-6)
        assert (others[name].interval or (0,)) == pytest.approx(measurement.interval or (0,), rel=1e-6)


def test_the_floor_is_the_distance_of_two_halves_of_the_real_images(bench: EvalContext, extractor: Any) -> None:
    """Every other image in the order of their digests; with the jackknife over five groups of each."""
    order = np.lexsort(bench.real.digests.T[::-1])
    halves = [extractor(bench.real.images[torch.from_numpy(order)])[start::2] for start in range(2)]

    def distance(*left_out: int | None) -> float:
        kept = [torch.arange(20) % 5 != group if group is not None else slice(None) for group in left_out]
        return slow_distance(*(statistics_of(half[rows]) for half, rows in zip(halves, kept, strict=True)))

    found = measured(bench, extractor)["fd_random_conv_real_halves"]
    assert found.value == pytest.approx(distance(None, None), rel=1e-6)
    assert found.value > 0
    without = [distance(group, None) for group in range(5)], [distance(None, group) for group in range(5)]
    reach = stats.t.ppf(0.975, 8) * np.sqrt(sum(4 * np.var(values) for values in without))
    assert found.interval == pytest.approx((max(found.value - reach, 0), found.value + reach), rel=1e-5)
    assert "5 groups of each half" in found.protocol["interval"]
    assert (found.protocol["num_real"], found.protocol["num_other_real"]) == (20, 20)


def test_few_real_images_have_a_floor_without_an_interval(bench: EvalContext, extractor: Any) -> None:
    for options in ({"num_real": 19}, {"num_groups": 0}):
        floor = measured(replace(bench), extractor, **options)["fd_random_conv_real_halves"]
        assert floor.value > 0
        assert floor.interval is None


def test_mirror_doubles_the_real_images(bench: EvalContext, extractor: Any) -> None:
    found = measured(bench, extractor, mirror="x", num_groups=0)["fd_random_conv_mirror"]
    bench.real.images = torch.cat([bench.real.images, bench.real.images.flip(3)])
    both = measured(replace(bench), extractor, num_groups=0)["fd_random_conv"]
    assert found.value == pytest.approx(both.value, rel=1e-9)
    assert found.protocol["num_real"] == 80


def test_the_jackknife_covers_the_spread_of_seeds(bench: EvalContext, extractor: Any) -> None:
    options = {"num_generated": 200, "num_groups": 10, "floor": "none"}
    runs = [measured(replace(bench, seed=seed, batch_size=100), extractor, **options) for seed in range(6)]
    found = [run["fd_random_conv"] for run in runs]
    spread = np.std([m.value for m in found], ddof=1)
    reach = np.mean([(m.interval[1] - m.interval[0]) / 2 for m in found])
    assert 0.5 < reach / (2.26 * spread) < 2.5


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"num_generated": 5, "num_groups": 3}, "num_groups=3 does not fit 5 generated images"),
        ({"num_groups": 1}, "num_groups=1"),
        ({"num_groups": 0, "extrapolate": True}, "extrapolate=true needs groups"),
        ({"mirror": "y"}, "mirror=y .*none, x"),
        ({"floor": "sea"}, "floor=sea .*none, halves"),
        ({"num_real": 41}, "41 real images cannot be measured: at least 1, at most the 40 given"),
        ({"num_real": 3}, "3 real images is not possible: at least 4"),
        ({"noise_mode": "loud"}, "noise_mode=loud .*const, random, none"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(
    bench: EvalContext, extractor: Any, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(UserError, match=word):
        measured(bench, extractor, **options)


def test_no_data_is_refused(bench: EvalContext, extractor: Any) -> None:
    with pytest.raises(UserError, match="0 real images"):
        measured(replace(bench, real=None), extractor)
