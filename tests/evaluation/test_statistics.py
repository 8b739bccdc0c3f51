from __future__ import annotations

import numpy as np
import pytest
import torch

import wplus.evaluation.statistics as statistics_module
from wplus.evaluation.statistics import FeatureStatistics, GroupedStatistics, jackknife_interval


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
@pytest.mark.parametrize("rows_at_once", [2, 512], ids=["summed on the way", "summed at the end"])
def test_groups_are_dealt_by_row(monkeypatch: pytest.MonkeyPatch, batch_size: int, rows_at_once: int) -> None:
    monkeypatch.setattr(statistics_module, "ROWS_AT_ONCE", rows_at_once)
    features, grouped = torch.randn(62, 6), GroupedStatistics(4)
    grouped.begin(6, 62, "cpu")
    for rows in torch.randperm(62).split(batch_size):
        grouped.add(features[rows], rows)
    grouped.merge()
    assert bool(grouped._sums) == (rows_at_once == 2)
    for index, group in enumerate(grouped.groups):
        assert group.num == len(features[index::4])
        torch.testing.assert_close(group.total, features[index::4].double().sum(dim=0))
        torch.testing.assert_close(group.outer, features[index::4].double().T @ features[index::4].double())
    torch.testing.assert_close(grouped.whole.covariance, statistics_of(features).covariance)


def test_a_block_of_rows_stays_together() -> None:
    features, grouped = torch.randn(12, 6), GroupedStatistics(2, block=2)
    grouped.begin(6, 12, "cpu")
    grouped.add(features, torch.arange(12))
    grouped.merge()
    expected = features[[0, 1, 4, 5, 8, 9]].double().sum(dim=0)
    torch.testing.assert_close(next(grouped.groups).total, expected)
    assert grouped.key != GroupedStatistics(2).key


def test_few_large_products_are_made_of_many_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(FeatureStatistics, "add", lambda self, features: sizes.append(len(features)))
    grouped = GroupedStatistics(4)
    grouped.begin(2, 4096, "cpu")
    for rows in torch.arange(4096).split(16):
        grouped.add(torch.zeros(16, 2), rows)
    grouped.merge()
    assert sizes == [512] * 8


def test_content_survives_as_arrays() -> None:
    grouped, copy = GroupedStatistics(3), GroupedStatistics(3)
    grouped.begin(6, 10, "cpu")
    grouped.add(torch.randn(10, 6), torch.arange(10))
    grouped.merge()
    copy.restore(grouped.arrays())
    for one, other in zip(grouped.groups, copy.groups, strict=True):
        assert one.num == other.num
        assert torch.equal(one.total, other.total)
        assert torch.equal(one.outer, other.outer)


# Intervals


def test_jackknife_of_a_mean_is_the_textbook_interval() -> None:
    """For the mean over groups of one, the delete-one jackknife is Student's interval exactly."""
    from scipy import stats

    x = np.random.default_rng(0).normal(size=12)
    without = [float(np.delete(x, index).mean()) for index in range(12)]
    expected = stats.t.interval(0.95, 11, loc=x.mean(), scale=stats.sem(x))
    assert jackknife_interval(float(x.mean()), without) == pytest.approx(expected)


def test_jackknife_of_two_samples_is_students_for_the_difference_of_their_means() -> None:
    from scipy import stats

    x, y = np.random.default_rng(0).normal(size=(2, 12)) * [[1], [3]]
    without = [[float(np.delete(x, i).mean() - y.mean()) for i in range(12)],
               [float(x.mean() - np.delete(y, i).mean()) for i in range(12)]]  # fmt: skip
    found = jackknife_interval(float(x.mean() - y.mean()), *without)
    assert found == pytest.approx(tuple(stats.ttest_ind(x, y).confidence_interval(0.95)))
