import numpy as np
import pytest
import torch

from wplus.evaluation.frechet import FeatureStatistics, frechet_distance
from wplus.evaluation.interpolation.realism import (
    PairFrechet,
    PairKernel,
    RealFeatures,
    realism,
    resamples,
    shown_frames,
)
from wplus.interpolation.path import even_positions


@pytest.fixture
def real() -> RealFeatures:
    return RealFeatures(torch.randn(60, 5))


def ones(num: int) -> np.ndarray:
    return np.ones((1, num))


def test_kernel_distance_against_loops(real):
    """Loops over pairs of pairs, pair by pair and frame by frame."""

    def kernel(x, y):
        return float((x @ y / len(x) + 1) ** 3)

    frames, rows = torch.randn(7, 3, 5).double(), real.rows
    within = [kernel(x, y) for i, p in enumerate(frames) for j, q in enumerate(frames) if i != j for x in p for y in q]
    reals = [kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
    across = [kernel(x, y) for x in frames.flatten(0, 1) for y in rows]
    expected = np.mean(within) + np.mean(reals) - 2 * np.mean(across)
    assert PairKernel(frames, real).distance(ones(7))[0] == pytest.approx(expected)


def test_weights_are_pairs_left_out(real):
    frames = torch.randn(8, 2, 5)
    weights = np.array([[1.0, 1, 0, 1, 1, 0, 1, 1]])
    kept = frames[weights[0] > 0]
    assert PairKernel(frames, real).distance(weights)[0] == pytest.approx(PairKernel(kept, real).distance(ones(6))[0])


def test_copies_of_a_frame_change_nothing(real):
    """A usual estimator would take them for new pictures that are all alike."""
    one = torch.randn(8, 1, 5)
    three = PairKernel(one.expand(8, 3, 5), real).distance(ones(8))
    assert three[0] == pytest.approx(PairKernel(one, real).distance(ones(8))[0])


def test_unbiased_for_equal_distributions(real):
    values = [PairKernel(torch.randn(6, 1, 5), RealFeatures(torch.randn(20, 5))).distance(ones(6))[0]
              for _ in range(300)]  # fmt: skip
    assert abs(np.mean(values)) < 3 * np.std(values) / 300**0.5


def test_frechet_distance_is_that_of_the_statistics(real):
    frames = torch.randn(12, 2, 5) + 0.3
    fast = PairFrechet(frames, real.statistics)
    for pairs in (torch.arange(12), torch.tensor([0, 2, 3, 5, 8, 9, 11])):
        statistics = FeatureStatistics.of(frames[pairs].flatten(0, 1))
        assert fast.distance(pairs) == pytest.approx(frechet_distance(statistics, real.statistics), rel=1e-9)
    assert fast.with_interval().interval is None  # too few pairs for ten groups
    value = PairFrechet(torch.randn(40, 2, 5), real.statistics).with_interval()
    assert value.interval[0] < value.value < value.interval[1]


def test_frames_of_every_place():
    places = {name: rows.tolist() for name, rows in shown_frames(even_positions(33), frames_per_bin=3).items()}
    assert [places[name] for name in ("ends", "middle", "10_30")] == [[0, 32], [16], [4, 6, 9]]
    assert not {0, 16, 32} & {*places["10_30"], *places["30_50"], *places["50_70"], *places["70_90"]}
    assert shown_frames(even_positions(34), frames_per_bin=2)["middle"].tolist() == [16, 17]
    one = shown_frames(even_positions(33), frames_per_bin=1)  # that in the middle of a bin
    assert [one[name].tolist() for name in ("10_30", "30_50")] == [[6], [12]]


@pytest.mark.parametrize("frames_per_bin", [1, 2])
@pytest.mark.parametrize("num_frames", [17, 33, 34, 60])
def test_bins_show_the_same_frames_from_both_sides(num_frames, frames_per_bin):
    places = shown_frames(even_positions(num_frames), frames_per_bin=frames_per_bin)
    for low, high in (("10_30", "70_90"), ("30_50", "50_70")):
        assert len(places[low]) == frames_per_bin
        assert sorted(num_frames - 1 - places[high]) == places[low].tolist()


def test_a_middle_that_leaves_the_data_shows(real):
    places = shown_frames(even_positions(33), frames_per_bin=2)
    frames = {place: torch.randn(30, len(rows), 5) for place, rows in places.items()}
    weights = resamples(30, seed=0, num=200)
    good = realism(frames, real, weights=weights, extractor="net")
    frames["middle"] = torch.randn(30, 1, 5) * 0.2 + 4
    bad = realism(frames, real, weights=weights, extractor="net")
    low, high = good.values["kd_net_mid_dip"].interval
    assert low < 0 < high
    assert bad.values["kd_net_mid_dip"].interval[0] > 0
    assert bad.values["precision_net_middle"].value == 0
    assert good.values["precision_net_middle"].value > 0.5
    expected = bad.values["kd_net_middle"].value - bad.values["kd_net_ends"].value
    assert bad.values["kd_net_mid_dip"].value == pytest.approx(expected)
    names = [f"fd_net_{place}" for place in ("10_30", "30_50", "50_70", "70_90")]
    assert [name for name in bad.values if name.startswith("fd_")] == names


def test_precision_is_the_published_one(real):
    features = torch.randn(50, 5) * 1.5
    rows, points = real.rows.numpy(), features.double().numpy()
    radii = np.sort(np.linalg.norm(rows[:, None] - rows, axis=2), axis=1)[:, 3]
    expected = (np.linalg.norm(points[:, None] - rows, axis=2) <= radii).any(axis=1)
    assert real.holds(features).numpy().tolist() == expected.tolist()
    assert 0 < expected.mean() < 1


def test_resamples_are_whole_pairs_and_few_pairs_still_give_numbers(real):
    weights = resamples(3, seed=0, num=300)
    assert (weights.sum(axis=1) == 3).all()
    assert np.array_equal(weights, resamples(3, seed=0, num=300))
    assert 200 < len(weights) < 300  # one in nine has one pair alone
    assert np.isfinite(PairKernel(torch.randn(3, 1, 5), real).distance(weights)).all()
