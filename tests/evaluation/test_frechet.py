from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch

from wplus.checkpoint import Models
from wplus.errors import UserError
from wplus.evaluation.frechet import frechet, frechet_distance
from wplus.evaluation.statistics import FeatureStatistics


def statistics_of(features: torch.Tensor) -> FeatureStatistics:
    statistics = FeatureStatistics.empty(features.shape[1])
    statistics.add(features)
    return statistics


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


def test_a_set_has_no_distance_from_itself() -> None:
    a = statistics_of(torch.randn(50, 20))
    assert 0 <= frechet_distance(a, a) < 1e-6


def measured(models: Models, real: Any, extractor: Any, shared: dict[str, Any], **options: Any) -> dict[str, Any]:
    options = {"num_generated": 24, "num_groups": 3, **options}
    return {m.name: m for m in frechet(models, real=real, extractor=extractor, **shared, **options)}


def test_names_and_protocol(models: Models, real: Any, extractor: Any, shared: dict[str, Any]) -> None:
    found = measured(models, real, extractor, shared, truncation_psi=0.7)
    assert list(found) == ["fd_random_conv", "fd_random_conv_real_halves"]
    protocol = found["fd_random_conv"].protocol
    expected = {
        "extractor": "random_conv", "num_real": 40, "num_generated": 24, "data": real.fingerprint, "seed": 0,
        "truncation_psi": 0.7, "noise_mode": "const", "mirror": "none", "weights": "moving average",
        "generator": models.fingerprint,
    }  # fmt: skip
    assert expected.items() <= protocol.items()
    low, high = found["fd_random_conv"].interval
    assert low <= found["fd_random_conv"].value <= high


def test_the_whole_metric_against_numpy(models: Models, real: Any, extractor: Any, shared: dict[str, Any]) -> None:
    from wplus.evaluation.sampler import generated_images

    images = torch.cat(list(generated_images(models.generator, num=24, batch_size=5, seed=0, device="cpu")))
    expected = slow_distance(statistics_of(extractor(real.images)), statistics_of(extractor(images)))
    value = measured(models, real, extractor, shared, num_groups=0)["fd_random_conv"].value
    assert value == pytest.approx(expected, rel=1e-6)


def test_order_and_batch_size_change_nothing(models: Models, real: Any, extractor: Any, shared: dict[str, Any]) -> None:
    value = measured(models, real, extractor, shared)["fd_random_conv"].value
    real.images = real.images[torch.randperm(40)]
    other = measured(models, real, extractor, shared | {"batch_size": 5})["fd_random_conv"].value
    assert other == pytest.approx(value, rel=1e-6)


def test_mirror_doubles_the_real_images(models: Models, real: Any, extractor: Any, shared: dict[str, Any]) -> None:
    found = measured(models, real, extractor, shared, mirror="x", num_groups=0)["fd_random_conv"]
    real.images = torch.cat([real.images, real.images.flip(3)])
    both = measured(models, real, extractor, shared, num_groups=0)["fd_random_conv"]
    assert found.value == pytest.approx(both.value, rel=1e-9)
    assert found.protocol["num_real"] == 80


def test_real_statistics_are_kept_for_their_key_only(
    models: Models, real: Any, extractor: Any, shared: dict[str, Any], tmp_path: Path
) -> None:
    def run(**options: Any) -> int:
        real.num_read = 0
        measured(models, real, extractor, shared, cache_dir=str(tmp_path), **options)
        return real.num_read

    assert [run(), run(), run(mirror="x"), run(num_real=20)] == [40, 0, 40, 20]
    extractor.scale = 2.0
    assert run() == 40
    real.fingerprint = "fedcba9876543210"
    assert [run(), run()] == [40, 0]


def test_the_jackknife_covers_the_spread_of_seeds(
    models: Models, real: Any, extractor: Any, shared: dict[str, Any]
) -> None:
    options = {"num_generated": 200, "num_groups": 10, "floor": "none"}
    runs = [
        measured(models, real, extractor, shared | {"seed": seed, "batch_size": 100}, **options) for seed in range(6)
    ]
    found = [run["fd_random_conv"] for run in runs]
    spread = np.std([m.value for m in found], ddof=1)
    reach = np.mean([(m.interval[1] - m.interval[0]) / 2 for m in found])
    assert 0.5 < reach / (2.26 * spread) < 2.5


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"num_generated": 5, "num_groups": 3}, "num_groups=3 does not fit num_generated=5"),
        ({"num_groups": 1}, "num_groups=1"),
        ({"mirror": "y"}, "mirror=y .*none, x"),
        ({"floor": "sea"}, "floor=sea .*none, halves"),
        ({"num_real": 41}, "41 real images is not possible: at least 4, at most the 40 given"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(
    models: Models, real: Any, extractor: Any, shared: dict[str, Any], options: dict[str, Any], word: str
) -> None:
    with pytest.raises(UserError, match=word):
        measured(models, real, extractor, shared, **options)


def test_no_data_is_refused(models: Models, extractor: Any, shared: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="0 real images"):
        measured(models, None, extractor, shared)
