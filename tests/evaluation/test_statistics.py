from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from wplus.evaluation.statistics import (
    FeatureStatistics,
    GroupedStatistics,
    cached_statistics,
    jackknife_interval,
)


def statistics_of(features: torch.Tensor, batch_size: int = 7) -> FeatureStatistics:
    statistics = FeatureStatistics.empty(features.shape[1])
    for batch in features.split(batch_size):
        statistics.add(batch)
    return statistics


def test_mean_and_covariance_equal_numpy() -> None:
    features = torch.randn(50, 6) * torch.arange(1, 7) + 100
    statistics = statistics_of(features)
    np.testing.assert_allclose(statistics.mean, features.double().numpy().mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance, np.cov(features.double().numpy(), rowvar=False), rtol=1e-8)


def test_order_and_batches_change_nothing() -> None:
    features = torch.randn(53, 6)
    one, other = statistics_of(features, 53), statistics_of(features[torch.randperm(53)], 4)
    torch.testing.assert_close(one.covariance, other.covariance, rtol=1e-12, atol=1e-12)


def test_union_and_rest() -> None:
    a, b = torch.randn(20, 6), torch.randn(30, 6)
    union = statistics_of(a) + statistics_of(b)
    torch.testing.assert_close(union.covariance, statistics_of(torch.cat([a, b])).covariance)
    rest = union - statistics_of(b)
    assert rest.num == 20
    torch.testing.assert_close(rest.covariance, statistics_of(a).covariance)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_groups_are_dealt_in_turn(batch_size: int) -> None:
    features = torch.randn(22, 6)
    grouped = GroupedStatistics(4, 6)
    for batch in features.split(batch_size):
        grouped.add(batch)
    for index, group in enumerate(grouped.groups):
        assert group.num == len(features[index::4])
        torch.testing.assert_close(group.total, features[index::4].double().sum(dim=0))


# Cache


def test_statistics_are_computed_once(tmp_path: Path) -> None:
    statistics, calls = [statistics_of(torch.randn(9, 3)), statistics_of(torch.randn(5, 3))], []
    compute = lambda: calls.append(1) or statistics  # noqa: E731
    key = {"data": "abc", "num": 3}
    cached_statistics(tmp_path, key, compute)
    again = cached_statistics(tmp_path, key, compute)
    assert len(calls) == 1
    for one, other in zip(statistics, again, strict=True):
        assert one.num == other.num
        assert torch.equal(one.total, other.total)
        assert torch.equal(one.outer, other.outer)
    cached_statistics(tmp_path, key | {"num": 4}, compute)
    cached_statistics(None, key, compute)
    assert len(calls) == 3


@pytest.mark.parametrize("damage", [b"", b"nonsense", "half"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: bytes | str) -> None:
    expected = [statistics_of(torch.randn(9, 3))]
    cached_statistics(tmp_path, {"a": 1}, lambda: expected)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "half" else damage)
    found = cached_statistics(tmp_path, {"a": 1}, lambda: expected)
    assert torch.equal(found[0].outer, expected[0].outer)
    assert cached_statistics(tmp_path, {"a": 1}, lambda: [])[0].num == 9


def test_the_cache_is_never_unpickled(tmp_path: Path) -> None:
    """An array of objects would run code when it is loaded; it counts as damage."""

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))

    cached_statistics(tmp_path, {"a": 1}, lambda: [statistics_of(torch.randn(9, 3))])
    (path,) = tmp_path.iterdir()
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **(content | {"nums": np.array([Trap()], dtype=object)}))
    made = cached_statistics(tmp_path, {"a": 1}, lambda: [statistics_of(torch.randn(5, 3))])
    assert made[0].num == 5
    assert not (tmp_path / "sprung").exists()


# Intervals


def test_jackknife_of_a_mean_is_the_textbook_interval() -> None:
    """For the mean over groups of one, the delete-one jackknife is Student's interval exactly."""
    from scipy import stats

    x = np.random.default_rng(0).normal(size=12)
    without = [float(np.delete(x, index).mean()) for index in range(12)]
    expected = stats.t.interval(0.95, 11, loc=x.mean(), scale=stats.sem(x))
    assert jackknife_interval(float(x.mean()), without) == pytest.approx(expected)
