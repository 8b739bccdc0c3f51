"""Precision, recall, density, coverage: on a line by hand, against loops and torch-fidelity, with planted faults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_prc import calculate_precision_recall_full

from wplus.errors import UserError
from wplus.evaluation import gram
from wplus.evaluation.manifold import (
    DensityCoverage,
    NeighbourSquares,
    PrecisionRecall,
    density_coverage,
    mean_count_interval,
    precision_recall,
    proportion_interval,
)


def gaussian(num: int, dim: int = 8, *, mean: float = 0.0, seed: int = 0) -> Tensor:
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)) + mean


def line(*positions: float) -> Tensor:
    """Points on a line in three dimensions."""
    return torch.tensor(positions)[:, None] * torch.tensor([[2 / 3, 2 / 3, 1 / 3]])


def slow(real: np.ndarray, generated: np.ndarray, k_pr: int, k_dc: int) -> tuple[float, float, float, float]:
    """All four, pair by pair, from their definitions."""

    def reach(points: np.ndarray, k: int) -> list[float]:
        return [
            sorted(float(np.linalg.norm(p - q)) for j, q in enumerate(points) if j != i)[k - 1]
            for i, p in enumerate(points)
        ]

    real_reach, generated_reach, wide = reach(real, k_pr), reach(generated, k_pr), reach(real, k_dc)
    distance = [[float(np.linalg.norm(r - g)) for g in generated] for r in real]
    n, m = len(real), len(generated)
    precision = sum(any(distance[i][j] <= real_reach[i] for i in range(n)) for j in range(m)) / m
    recall = sum(any(distance[i][j] <= generated_reach[j] for j in range(m)) for i in range(n)) / n
    density = sum(distance[i][j] < wide[i] for i in range(n) for j in range(m)) / (k_dc * m)
    coverage = sum(min(distance[i]) < wide[i] for i in range(n)) / n
    return precision, recall, density, coverage


def test_neighbours_on_a_line():
    points = line(0, 1, 3, 7, 15)
    for k, expected in ((1, [1, 1, 2, 4, 8]), (3, [7, 6, 4, 7, 14])):
        squares = gram.Sweep(lambda: points).ask(NeighbourSquares(k)).value
        assert squares.sqrt().tolist() == pytest.approx(expected, rel=1e-6)


def test_balls_on_a_line():
    """Balls of radius 1, 1, 2, 4, 8 around 0, 1, 3, 7, 15; 5 lies exactly on one. Around 0.5, 5, 30: 4.5, 4.5, 25."""
    real, generated = line(0, 1, 3, 7, 15), line(0.5, 5, 30)
    assert precision_recall(real, generated, k=1) == pytest.approx((2 / 3, 1))
    assert density_coverage(real, generated, k=1) == pytest.approx((3 / 3, 3 / 5))


def test_the_surface_belongs_to_closed_balls_only():
    """2 and 4 lie on the surface of the only ball there is, that of 3; whole numbers, so that rounding has no say."""
    real, generated = torch.tensor([[3.0], [4.0], [100.0], [101.0]]), torch.tensor([[2.0], [2.0]])
    assert precision_recall(real, generated, k=1) == (1.0, 0.0)
    assert density_coverage(real, generated, k=1) == (0.0, 0.0)


@pytest.mark.parametrize("offset", [0.0, 100.0, 1e4])
def test_identical_sets(offset):
    features = gaussian(300, 64) + offset
    other = features[torch.randperm(300)]
    assert precision_recall(features, other) == (1.0, 1.0)
    assert density_coverage(features, other) == (1.0, 1.0)


def test_identical_sets_in_which_images_repeat():
    features = gaussian(40, 64).repeat(6, 1)
    assert precision_recall(features, features) == (1.0, 1.0)
    jittered = features * (1 + 1e-7 * torch.randn(features.shape))  # as batches of another size give them
    assert precision_recall(features, jittered) == (1.0, 1.0)
    assert density_coverage(features, features) == (0.0, 0.0)  # open balls of radius 0, as in the authors' code


def test_a_dropped_mode_is_seen_by_recall_and_coverage_and_not_by_precision():
    real = torch.cat([gaussian(200, mean=4, seed=1), gaussian(200, mean=-4, seed=2)])
    whole = torch.cat([gaussian(200, mean=4, seed=3), gaussian(200, mean=-4, seed=4)])
    half = torch.cat([gaussian(200, mean=4, seed=3), gaussian(200, mean=4, seed=5)])
    (precision, recall), (density, coverage) = precision_recall(real, whole), density_coverage(real, whole)
    assert min(precision, recall, density, coverage) > 0.8
    lost_precision, lost_recall = precision_recall(real, half)
    lost_density, lost_coverage = density_coverage(real, half)
    assert lost_precision > precision - 0.05
    assert lost_density > 0.8
    assert lost_recall < 0.51
    assert lost_coverage < 0.51


def test_strange_images_are_seen_by_precision_and_density_and_not_by_recall():
    real, strange = gaussian(300, seed=1), torch.cat([gaussian(300, seed=2), gaussian(300, mean=9, seed=3)])
    precision, recall = precision_recall(real, strange)
    density, coverage = density_coverage(real, strange)
    assert precision < 0.51
    assert density < 0.6
    assert min(recall, coverage) > 0.8


@pytest.mark.parametrize(("k_pr", "k_dc"), [(3, 5), (1, 2)])
def test_against_a_slow_loop(monkeypatch, k_pr, k_dc):
    real, generated = gaussian(60, 4), gaussian(45, 4, mean=0.5, seed=1)
    expected = slow(real.double().numpy(), generated.double().numpy(), k_pr, k_dc)
    assert min(expected) > 0
    for block in (1024, 13):
        monkeypatch.setattr(gram, "BLOCK", block)
        found = (*precision_recall(real, generated, k=k_pr), *density_coverage(real, generated, k=k_dc))
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("block", [1024, 13])
@pytest.mark.parametrize(("offset", "spread"), [(0.0, 1.0), (1000.0, 1.0), (1.0, 1e-3)])
def test_radii_are_those_of_float64_where_points_repeat_and_distances_tie(monkeypatch, block, offset, spread):
    monkeypatch.setattr(gram, "BLOCK", block)
    steps = torch.randint(-1, 2, (70, 5), generator=torch.Generator().manual_seed(0))
    points = (offset + spread * torch.cat([steps, steps[:10], steps[:10]])).float()
    squares = (points.double()[:, None] - points.double()).square().sum(dim=2)
    squares.fill_diagonal_(torch.inf)
    for k in (1, 2, 3, 12, 40):
        found = gram.Sweep(lambda: points).ask(NeighbourSquares(k)).value
        torch.testing.assert_close(found, squares.kthvalue(k, dim=1).values, rtol=1e-9, atol=0)


def test_torch_fidelity():
    real, generated = gaussian(300, 4), gaussian(250, 4, mean=0.6, seed=1)
    assert precision_recall(real, generated) == pytest.approx(
        calculate_precision_recall_full(generated, real), abs=1e-6
    )


def test_torch_fidelity_loses_small_distances_to_a_large_mean():
    """Its float32 distances of |x|^2 + |y|^2 - 2 x.y; ours are those of the same points without the mean."""
    steps = torch.randint(0, 50, (400, 4), generator=torch.Generator().manual_seed(0)) * 2.0**-9
    real, generated = steps[:200] + 2.0**10, steps[200:] * 1.2 + 2.0**10
    expected = precision_recall(real - 2.0**10, generated - 2.0**10)
    assert precision_recall(real, generated) == expected
    assert calculate_precision_recall_full(generated, real) != pytest.approx(expected, abs=0.02)


# Intervals


def test_a_proportions_interval_by_the_book():
    """Wilson's for 50 and for 100 of 100; the latter's lower end is n / (n + z^2)."""
    assert proportion_interval(1.0, 100) == pytest.approx((100 / 103.8415, 1.0), abs=1e-5)
    assert proportion_interval(0.5, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)
    for num in range(1, 300):  # exact, not up to rounding
        assert proportion_interval(0.0, num)[0] == 0
        assert proportion_interval(1.0, num)[1] == 1


def test_a_counts_interval_is_the_bootstraps():
    rng = np.random.default_rng(0)
    counts = rng.poisson(2, size=400)
    means = [rng.choice(counts, 400).mean() for _ in range(4000)]
    low, high = mean_count_interval(counts, seed=0, num_resamples=4000)
    assert (low, high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.02)


# The metrics


def measured(bench, metric_class, extractor, **options):
    metric = metric_class(extractor=extractor, **{"num_generated": 30, **options})
    metric.plan(bench)
    return {m.name: m for m in metric(bench)}


def all_four(bench, extractor, **options):
    return {
        **measured(bench, PrecisionRecall, extractor, **options),
        **measured(bench, DensityCoverage, extractor, **options),
    }


def test_what_the_metrics_yield(bench, extractor):
    found = all_four(bench, extractor)
    features = []
    for one_pass in (bench.real_images(), bench.generated(30)):
        features.append(extractor(one_pass.source.images(torch.arange(one_pass.source.num))).float())
    names = [f"{part}_random_conv" for part in ("precision", "recall", "density", "coverage")]
    assert list(found) == names
    values = [measurement.value for measurement in found.values()]
    assert values == pytest.approx([*precision_recall(*features), *density_coverage(*features)])
    for measurement in found.values():
        low, high = measurement.interval
        assert low <= measurement.value <= high
        assert measurement.meaning
        assert measurement.protocol["num_real"] == 40
    assert [measurement.protocol["neighbour"] for measurement in found.values()] == [3, 3, 5, 5]


def test_the_order_and_the_batch_do_not_matter(bench, real, extractor):
    shuffled = replace(real, images=real.images[torch.randperm(len(real))])
    first, other = all_four(bench, extractor), all_four(replace(bench, real=shuffled, batch_size=7), extractor)
    for name in first:
        assert other[name].value == pytest.approx(first[name].value, abs=1e-6)
        assert other[name].interval == pytest.approx(first[name].interval, abs=1e-6)


def test_names(bench, extractor):
    assert list(measured(bench, PrecisionRecall, extractor, k=4)) == [
        "precision_random_conv_k4",
        "recall_random_conv_k4",
    ]
    extractor.name = "vgg16"
    names = list(measured(bench, PrecisionRecall, extractor, truncation_psi=0.5))
    assert names == ["precision_vgg16_30_psi0.5", "recall_vgg16_30_psi0.5"]
    assert list(measured(bench, DensityCoverage, extractor)) == ["density_vgg16", "coverage_vgg16"]
    names = list(measured(bench, DensityCoverage, extractor, noise_mode="none", k=4))
    assert names == ["density_vgg16_none_noise_k4", "coverage_vgg16_none_noise_k4"]
    assert PrecisionRecall(extractor=extractor)._name("recall", bench) == "pr50k3_full_recall"
    assert PrecisionRecall(extractor=extractor, k=5)._name("recall", bench) == "recall_vgg16_50000_k5"


def test_mirror_images_are_no_new_images_to_an_interval(bench, extractor):
    plain, mirrored = (measured(bench, PrecisionRecall, extractor, mirror=mirror) for mirror in ("none", "x"))
    recall = mirrored["recall_random_conv_mirror"]
    assert recall.protocol["num_real"] == 80
    assert recall.interval == proportion_interval(recall.value, 40)
    assert plain["recall_random_conv"].protocol["num_real"] == 40


@pytest.mark.parametrize("metric_class", [PrecisionRecall, DensityCoverage])
def test_impossible_options_are_refused_before_anything_runs(bench, extractor, metric_class):
    for k in (0, 30):
        with pytest.raises(UserError, match=f"k={k} does not fit 30 generated images"):
            metric_class(extractor=extractor, k=k, num_generated=30)
    with pytest.raises(UserError, match="3 real images have no neighbour"):
        metric_class(extractor=extractor, num_generated=30, num_real=3).plan(bench)
    given = replace(bench, samples=type(bench.real)(bench.real.images[:3]))
    with pytest.raises(UserError, match="does not fit 3 generated images"):
        metric_class(extractor=extractor).plan(given)


def test_too_few_vectors_are_refused():
    with pytest.raises(UserError, match="3 images have no neighbour 3"):
        precision_recall(gaussian(3), gaussian(30))
