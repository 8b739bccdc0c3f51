"""Precision, recall, density, coverage: on a line by hand, against loops and torch-fidelity, with planted faults."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_prc import calculate_precision_recall_full

from tests.fakes import measured
from wplus.core.stats import proportion_interval
from wplus.errors import UserError
from wplus.evaluation import pairwise
from wplus.evaluation.manifold import dc, density_coverage, mean_count_interval, pr, precision_recall


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


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_identical_sets_also_where_images_repeat(offset):
    features = gaussian(300, 64) + offset
    other = features[torch.randperm(300)]
    assert precision_recall(features, other) == (1.0, 1.0)
    assert density_coverage(features, other) == (1.0, 1.0)
    features = gaussian(40, 64).repeat(6, 1)
    assert precision_recall(features, features) == (1.0, 1.0)
    jittered = features * (1 + 1e-7 * torch.randn(features.shape))  # as batches of another size give them
    assert precision_recall(features, jittered) == (1.0, 1.0)
    assert density_coverage(features, features) == (0.0, 0.0)  # open balls of radius 0, as in the authors' code


def test_a_dropped_mode_is_seen_by_recall_and_coverage_and_not_by_precision():
    real = torch.cat([gaussian(200, mean=4, seed=1), gaussian(200, mean=-4, seed=2)])
    whole = torch.cat([gaussian(200, mean=4, seed=3), gaussian(200, mean=-4, seed=4)])
    half = torch.cat([gaussian(200, mean=4, seed=3), gaussian(200, mean=4, seed=5)])
    assert min(precision_recall(real, whole) + density_coverage(real, whole)) > 0.8
    (precision, recall), (density, coverage) = precision_recall(real, half), density_coverage(real, half)
    assert min(precision, density) > 0.8
    assert max(recall, coverage) < 0.51


@pytest.mark.parametrize(("k_pr", "k_dc"), [(3, 5), (1, 2)])
def test_against_a_slow_loop(monkeypatch, k_pr, k_dc):
    real, generated = gaussian(60, 4), gaussian(45, 4, mean=0.5, seed=1)
    expected = slow(real.double().numpy(), generated.double().numpy(), k_pr, k_dc)
    assert min(expected) > 0
    for block in (1024, 13):
        monkeypatch.setattr(pairwise, "BLOCK", block)
        found = (*precision_recall(real, generated, k=k_pr), *density_coverage(real, generated, k=k_dc))
        assert found == pytest.approx(expected, abs=1e-12)


def test_torch_fidelity():
    real, generated = gaussian(300, 4), gaussian(250, 4, mean=0.6, seed=1)
    assert precision_recall(real, generated) == pytest.approx(
        calculate_precision_recall_full(generated, real), abs=1e-6
    )


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


def all_four(context, extractor, **options):
    options = {"extractor": extractor, "num_generated": 30} | options
    return measured(context, pr, **options) | measured(context, dc, **options)


def test_what_the_metrics_yield(context, extractor):
    found = all_four(context, extractor)
    features = []
    for one_pass in (context.real_images(), context.generated(30)):
        features.append(extractor(one_pass.source.images(torch.arange(one_pass.source.num))).float())
    assert list(found) == [f"{part}_random_conv" for part in ("precision", "recall", "density", "coverage")]
    values = [result.value for result in found.values()]
    assert values == pytest.approx([*precision_recall(*features), *density_coverage(*features)])
    for result in found.values():
        assert result.protocol["num_real"] == 40
    assert [result.protocol["neighbour"] for result in found.values()] == [3, 3, 5, 5]


@pytest.mark.parametrize(
    ("net", "options", "suffixes"),
    [
        ("random_conv", {"k": 4}, ["random_conv_k4"] * 4),
        ("random_conv", {"k": 5}, ["random_conv_k5"] * 2 + ["random_conv"] * 2),
        ("vgg16", {"truncation_psi": 0.5}, ["vgg16_30_psi0.5"] * 2 + ["vgg16_psi0.5"] * 2),
        ("vgg16", {"noise_mode": "none", "k": 4}, ["vgg16_30_none_noise_k4"] * 2 + ["vgg16_none_noise_k4"] * 2),
    ],
)
def test_names(context, extractor, net, options, suffixes):
    extractor.name = net
    parts = ("precision", "recall", "density", "coverage")
    expected = [f"{part}_{suffix}" for part, suffix in zip(parts, suffixes, strict=True)]
    assert list(all_four(context, extractor, **options)) == expected


def test_mirror_images_are_no_new_images_to_an_interval(context, extractor):
    options = {"extractor": extractor, "num_generated": 30}
    plain, mirrored = (measured(context, pr, mirror=mirror, **options) for mirror in ("none", "x"))
    recall = mirrored["recall_random_conv_mirror"]
    assert recall.protocol["num_real"] == 80
    assert recall.interval == proportion_interval(recall.value, 40)
    assert plain["recall_random_conv"].protocol["num_real"] == 40


@pytest.mark.parametrize("metric", [pr, dc])
def test_impossible_options_are_refused_before_anything_runs(context, extractor, metric):
    for k in (0, 30):
        with pytest.raises(UserError, match=f"k must be from 1 to one less than the 30 generated images, got {k}"):
            metric(context, extractor=extractor, k=k, num_generated=30)
    with pytest.raises(UserError, match="3 real images have no neighbour"):
        metric(context, extractor=extractor, num_generated=30, num_real=3)
    given = replace(context, samples=type(context.real)(context.real.images[:3]))
    with pytest.raises(UserError, match="less than the 3 generated images"):
        metric(given, extractor=extractor)
    with pytest.raises(UserError, match="3 images have no neighbour 3"):
        precision_recall(gaussian(3), gaussian(30))
