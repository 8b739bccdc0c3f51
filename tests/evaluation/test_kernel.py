"""KID against its closed form, slow loops, and torch-fidelity."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_kid import kid_features_to_metric

from tests.fakes import measured
from wplus.errors import UserError
from wplus.evaluation import pairwise
from wplus.evaluation.kernel import in_subsets, kd, kernel_distances


def gaussian(num: int, dim: int, *, mean: float = 0.0, std: float = 1.0, seed: int = 0) -> Tensor:
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * std + mean


def slow_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD, pair by pair."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (float(a @ b) / len(a) + 1) ** 3

    m, n = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_y = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (m * n)


def test_two_points_have_a_closed_form():
    """All images alike: the distance is k(a, a) + k(b, b) - 2 k(a, b)."""
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0])
    found = kernel_distances(a.expand(30, 2), b.expand(20, 2), subset_size=10)
    assert found.mean == pytest.approx((5 / 2 + 1) ** 3 + (10 / 2 + 1) ** 3 - 2 * (1 / 2 + 1) ** 3, rel=1e-12)
    assert found.std == pytest.approx(0, abs=1e-9)


def drawn(real: tuple[int, int], generated: tuple[int, int], **moments: float) -> list[float]:
    """The distance of 300 draws of this many vectors and dimensions."""
    return [
        kernel_distances(
            gaussian(*real, seed=2 * i), gaussian(*generated, seed=2 * i + 1, **moments), num_subsets=1
        ).mean
        for i in range(300)
    ]


def test_gaussians_on_a_line_have_a_closed_form():
    """(xy + 1)^3 has the moments of order 1 to 3 as features: 3 (dm1)^2 + 3 (dm2)^2 + (dm3)^2 is the distance."""
    mean, std = 0.4, 1.2
    expected = 3 * mean**2 + 3 * (mean**2 + std**2 - 1) ** 2 + (mean**3 + 3 * mean * std**2) ** 2
    values = drawn((300, 1), (200, 1), mean=mean, std=std)
    error = np.std(values) / 300**0.5
    assert abs(np.mean(values) - expected) < 3 * error < 0.1 * expected


def test_equal_distributions_are_at_zero_on_average():
    """Unbiased at any number; the biased estimate, with each image's pair with itself, would be positive always."""
    values = drawn((40, 8), (30, 8))
    assert abs(np.mean(values)) < 3 * np.std(values) / 300**0.5
    assert min(values) < 0 < max(values)


def test_subsets_against_a_slow_loop():
    real, generated = gaussian(31, 4), gaussian(23, 4, mean=0.3, seed=1)
    found = kernel_distances(real, generated, num_subsets=3, subset_size=12, seed=5)
    rows = [in_subsets(3, 12, num, 5, side=side).bool() for side, num in ((0, 31), (1, 23))]
    assert all((chosen.sum(dim=1) == 12).all() for chosen in rows)
    expected = [slow_mmd(real[rows[0][i]].numpy(), generated[rows[1][i]].numpy()) for i in range(3)]
    np.testing.assert_allclose(found.subsets, expected, rtol=1e-10)
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.std == pytest.approx(np.std(expected))


def test_groups_left_out_against_a_slow_loop():
    real, generated = gaussian(15, 4), gaussian(11, 4, mean=0.3, seed=1)
    found = kernel_distances(real, generated, num_groups=3)
    without = [slow_mmd(real.numpy(), generated[torch.arange(11) % 3 != group].numpy()) for group in range(3)]
    np.testing.assert_allclose(found.without_group.diff(), np.diff(without), rtol=1e-9)  # up to a constant
    spread = np.var(without) * 3 * 2 / 3 + np.var(found.subsets.numpy()) / 100
    low, high = found.interval
    assert (high - low) / 2 == pytest.approx(4.302652729911275 * spread**0.5)  # t, 2 degrees of freedom


def test_the_interval_holds_what_it_promises():
    """95 % of intervals hold the distance of the real images from all that could be generated, known in closed form."""
    mean, std = 0.5, 0.3
    real = gaussian(80, 1, std=std, seed=10_000)
    m = [1, mean, mean**2 + std**2, mean**3 + 3 * mean * std**2]  # moments of what is generated
    binomials = [1, 3, 3, 1]
    within_real = ((real @ real.T + 1) ** 3).fill_diagonal_(0).sum() / (80 * 79)
    within = sum(c * m[i] ** 2 for i, c in enumerate(binomials))
    between = sum(c * m[i] * (real**i).mean() for i, c in enumerate(binomials))
    truth = float(within_real + within - 2 * between)
    held = 0
    for seed in range(200):
        options = {"num_subsets": 20, "subset_size": 40, "seed": seed}
        low, high = kernel_distances(real, gaussian(80, 1, mean=mean, std=std, seed=seed), **options).interval
        held += low <= truth <= high
    assert 0.90 <= held / 200 <= 0.99


def test_torch_fidelity_on_all_images():
    real, generated = gaussian(40, 6).float(), gaussian(40, 6, mean=0.3, seed=1).float()
    theirs = kid_features_to_metric(real, generated, kid_subsets=2, kid_subset_size=40, verbose=False)
    found = kernel_distances(real, generated, num_subsets=2)
    assert found.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)


def test_the_seed_draws_the_subsets_and_nothing_else():
    real, generated = gaussian(60, 6), gaussian(50, 6, mean=0.3, seed=1)
    first, again, other = (kernel_distances(real, generated, subset_size=10, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.subsets, again.subsets)
    assert not torch.equal(first.subsets, other.subsets)
    torch.testing.assert_close(first.without_group, other.without_group, rtol=1e-12, atol=1e-12)
    assert kernel_distances(real, generated).mean > 0  # fewer images than a subset has: the definition takes them all


def test_blocks_change_nothing(monkeypatch):
    real, generated = gaussian(50, 6).float(), gaussian(40, 6, mean=0.3, seed=1).float()
    whole = kernel_distances(real, generated, num_subsets=5, subset_size=20)
    monkeypatch.setattr(pairwise, "BLOCK", 7)
    parts = kernel_distances(real, generated, num_subsets=5, subset_size=20)
    torch.testing.assert_close(parts.subsets, whole.subsets, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts.without_group, whole.without_group, rtol=1e-12, atol=1e-12)


def test_a_large_mean_and_one_long_vector_cost_no_digits():
    """Nearly all of the kernel cancels in the distance."""
    real, generated = gaussian(30, 16, mean=100.0), gaussian(30, 16, mean=100.1, seed=1)
    generated[7] *= 10
    found = kernel_distances(real, generated, num_subsets=1)
    assert found.mean == pytest.approx(slow_mmd(real.numpy(), generated.numpy()), rel=1e-9)


# The metric

FEW = {"num_generated": 30, "subset_size": 20}


def test_it_yields_mean_interval_and_deviation(context, extractor):
    found = measured(context, kd, extractor=extractor, **FEW)
    assert list(found) == ["kd_random_conv_100x20", "kd_random_conv_100x20_std"]
    mean, std = found.values()
    features = {}
    for side, one_pass in (("real", context.real_images()), ("generated", context.generated(30))):
        features[side] = extractor(one_pass.source.images(torch.arange(one_pass.source.num))).float()
    expected = kernel_distances(**features, subset_size=20)
    assert mean.value == pytest.approx(expected.mean, rel=1e-6)
    assert std.value == pytest.approx(expected.std, rel=1e-6)
    assert mean.interval == pytest.approx(expected.interval, rel=1e-6)
    assert mean.protocol["subset_size"] == 20


@pytest.mark.parametrize(
    ("net", "options", "names"),
    [
        ("random_conv", {"subset_size": 1000}, ["kd_random_conv", "kd_random_conv_std"]),
        ("random_conv", {"subset_size": 1000, "num_generated": 40}, ["kd_random_conv"]),  # all subsets are the same
        ("inception", {"subset_size": 1000}, ["kid_30", "kid_30_std"]),
        ("inception", {"truncation_psi": 0.5}, ["kid_30_psi0.5_100x20", "kid_30_psi0.5_100x20_std"]),
    ],
)
def test_names(context, extractor, net, options, names):
    extractor.name = net
    assert list(measured(context, kd, extractor=extractor, **FEW | options)) == names


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_subsets": 0}, "num_subsets must be .* at least 1, got 0"),
        ({"subset_size": 1}, "subset_size must be .* at least 2, got 1"),
        ({"num_groups": 1}, "num_groups must be .* got 1"),
        ({"num_groups": 20}, "got 20 for 30 generated images"),
        ({"num_generated": 1}, "got 10 for 1 generated images"),
        ({"num_real": 1}, "num_real must be at least 2 .* got 1"),
    ],
)
def test_impossible_options_are_refused_before_anything_runs(context, extractor, options, words):
    with pytest.raises(UserError, match=words):
        kd(context, extractor=extractor, **FEW | options)
    given = replace(context, samples=type(context.real)(context.real.images[:5]))
    with pytest.raises(UserError, match="got 10 for 5 generated images"):
        kd(given, extractor=extractor)
