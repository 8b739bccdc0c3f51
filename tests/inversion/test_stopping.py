"""When images stop."""

from __future__ import annotations

import pytest
import torch

from wplus.errors import UserError
from wplus.inversion.result import ROUNDS_BETWEEN_CHECKS, EarlyStop

CPU = torch.device("cpu")


def frozen_after(losses: list[float], *, patience: int, tolerance: float) -> int | None:
    """The number of the evaluation after which an image is frozen."""
    stop = EarlyStop({"patience": patience, "tolerance": tolerance}, 1, CPU)
    for number, loss in enumerate(losses, start=1):
        stop.add(torch.tensor([loss]))
        if stop.frozen.item():
            return number
    return None


@pytest.mark.parametrize(
    ("losses", "number"),
    [
        ([1.0, 1.0, 1.0, 1.0], 4),
        ([1.0, 0.95, 0.89, 0.85, 0.81, 0.805], 6),  # 0.89 is a tenth below 1; 0.805 is not a tenth below 0.89
        ([1.0, 2.0, 0.5, 2.0, 2.0, 0.4], None),
        ([1.0, float("nan"), float("nan"), float("nan")], 4),
        ([float("nan"), 1.0, 0.5, 0.2], None),
    ],
)
def test_frozen_when_the_best_has_not_fallen_by_a_tenth_for_three_evaluations(losses, number):
    assert frozen_after(losses, patience=3, tolerance=0.1) == number


def test_images_are_decided_one_by_one_and_frozen_for_good():
    stop = EarlyStop({"patience": 2, "tolerance": 0.0}, 2, CPU)
    for loss in ([1.0, 1.0], [1.0, 0.9], [1.0, 0.8], [0.1, 0.7]):
        stop.add(torch.tensor(loss))
    assert stop.frozen.tolist() == [True, False]
    assert stop.held(torch.zeros(2, 3), torch.ones(2, 3)).tolist() == [[0] * 3, [1] * 3]


def test_the_device_is_asked_now_and_then():
    stop = EarlyStop({"patience": 1, "tolerance": 0.0}, 1, CPU)
    for number in range(1, ROUNDS_BETWEEN_CHECKS + 1):
        stop.add(torch.ones(1))
        assert stop.is_over() == (number == ROUNDS_BETWEEN_CHECKS)


def test_without_a_rule_nothing_stops():
    stop = EarlyStop(None, 1, CPU)
    for _ in range(2 * ROUNDS_BETWEEN_CHECKS):
        stop.add(torch.ones(1))
        assert not stop.is_over()
    assert not stop.frozen.any()


@pytest.mark.parametrize(
    "rule", [{}, {"patience": 3}, {"patience": 0, "tolerance": 0.1}, {"patience": 3, "tolerance": 1}]
)
def test_bad_rules(rule):
    with pytest.raises(UserError, match="early_stop="):
        EarlyStop(rule, 1, CPU)
