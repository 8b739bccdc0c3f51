from __future__ import annotations

import numpy as np
import pytest

from wplus.data.split import check_split, select
from wplus.errors import UserError

NAMES = [f"{index}.png" for index in range(500)]


def test_splits_are_disjoint_and_complete() -> None:
    train, held_out = select(NAMES, "train", 0.2), select(NAMES, "held_out", 0.2)
    assert sorted([*train, *held_out]) == select(NAMES, "all", 0.2).tolist()
    assert 60 < len(held_out) < 140


def test_more_images_or_a_larger_share_move_nothing_back() -> None:
    before = {NAMES[index] for index in select(NAMES, "held_out", 0.2)}
    grown = sorted([*NAMES, *(f"new{index}.png" for index in range(50))])
    after = {grown[index] for index in select(grown, "held_out", 0.2)}
    assert before == after & set(NAMES)
    assert before < {NAMES[index] for index in select(NAMES, "held_out", 0.4)}


@pytest.mark.parametrize(
    ("split", "fraction"), [("test", 0.1), ("train", 1.5), ("train", -0.1), ("all", "x"), ("all", True)]
)
def test_nonsense_is_refused(split: str, fraction: float) -> None:
    with pytest.raises(UserError, match="not allowed"):
        check_split(split, fraction)


def test_extreme_fractions() -> None:
    assert len(select(NAMES, "held_out", 0)) == 0
    assert np.array_equal(select(NAMES, "held_out", 1), np.arange(500))
