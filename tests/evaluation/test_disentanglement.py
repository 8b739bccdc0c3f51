"""Scores of disentanglement against planted truths and closed forms."""

import numpy as np
import pytest

from wplus.evaluation.disentanglement import INFORMATIVENESS, _dci, _result, disentangled, mutual_information_gap

NUM = 3000
GROUPS = np.arange(NUM) % 3


def planted(seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Codes (N, 4) of which the first two say one factor each, the others nothing."""
    rng = np.random.default_rng(seed)
    # As frequent as each other, so that no bin holds two values.
    factors = {"a": rng.permutation(np.arange(NUM) % 4), "b": rng.permutation(np.arange(NUM) % 2)}
    noise = rng.normal(0, 0.01, (NUM, 4))
    return noise + np.stack([factors["a"], factors["b"], rng.normal(size=NUM), rng.normal(size=NUM)], axis=1), factors


def scores(codes: np.ndarray, factors: dict[str, np.ndarray]) -> dict[str, float]:
    found = _dci(codes, factors, GROUPS, seed=0, num_trees=10, max_depth=8, progress=lambda items, *_, **__: items)
    assert all(len(values) == 3 for _, values in found.values())
    return {name: float(np.mean(values)) for name, (_, values) in found.items()}


def test_numbers_that_say_one_factor_each_and_a_rotation_of_them() -> None:
    codes, factors = planted()
    found = scores(codes, factors)
    assert found["disentanglement"] > 0.9
    assert found["completeness"] > 0.9
    assert found["informativeness"] > 0.99
    turned, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    rotated = scores(codes @ turned, factors)
    assert rotated["disentanglement"] < 0.5
    assert rotated["completeness"] < 0.6
    assert rotated["informativeness"] > 0.6
    assert scores(np.random.default_rng(2).normal(size=(NUM, 4)), factors)["informativeness"] < 0.4


def test_importances_in_closed_form() -> None:
    assert disentangled(np.eye(3)) == pytest.approx((1, 1))
    assert disentangled(np.ones((4, 3))) == pytest.approx((0, 0), abs=1e-12)
    # One number tells both factors, the other one alone: D = 2/3 0 + 1/3 1; of C the first's is 0, the second's 1.
    assert disentangled(np.array([[1.0, 1.0], [1.0, 0.0]])) == pytest.approx((1 / 3, 0.5))
    assert disentangled(np.array([[1.0, 0.0], [0.0, 0.0]])) == pytest.approx((1, 0.5))  # nothing tells the second


def test_the_interval_of_held_out_groups_is_that_of_independent_ones() -> None:
    """Deleting one of five groups moves an estimate a quarter as far as the group itself is off."""
    values = [0.2, 0.4, 0.5, 0.6, 0.8]
    without = [(sum(values) - value) / 4 for value in values]
    low, high = _result(INFORMATIVENESS, "x", values, {}, held_out=True).interval
    assert (low, high) == pytest.approx((0.2223, 0.7777), abs=1e-4)  # 0.5 -+ 2.776 * 0.2236 / sqrt(5)
    assert _result(INFORMATIVENESS, "x", without, {}).interval == pytest.approx((low, high))


def test_the_gap_is_that_of_the_two_most_telling_numbers() -> None:
    codes, factors = planted()
    assert mutual_information_gap(codes, factors) == pytest.approx(1, abs=0.05)
    twice = np.concatenate([codes, codes[:, :2]], axis=1)  # two numbers tell each: no gap
    assert mutual_information_gap(twice, factors) == pytest.approx(0, abs=0.05)
    assert mutual_information_gap(np.random.default_rng(1).normal(size=(NUM, 3)), factors) < 0.02
    halves = np.sort(np.tile([0, 1], NUM // 2))  # of a number that never varies the place in a list tells nothing
    assert mutual_information_gap(np.zeros((NUM, 1)), {"a": halves}) == pytest.approx(0)
    # Of two equally frequent values a number tells one bit, and the other a quarter of the samples by chance.
    halves = np.tile([0, 1], NUM // 2)
    assert mutual_information_gap(halves[:, None].astype(float), {"a": halves}) == pytest.approx(1)
