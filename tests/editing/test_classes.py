from __future__ import annotations

import numpy as np
import pytest

from wplus.editing.classes import expand, members, split
from wplus.errors import UserError

ATTRIBUTES = {
    "body": np.array([0, 3, 3, 1]),
    "flip": np.array([0, 1, 1, 0]),
    "mood": np.array(["glad", "sad", "glad", "so so"]),
    "size": np.array([0.5, 1.5, 2.5, 0.25]),
}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("body=3", [0, 1, 1, 0]),
        ("body!=3", [1, 0, 0, 1]),
        ("body>=1", [0, 1, 1, 1]),
        ("body<1", [1, 0, 0, 0]),
        ("mood=glad", [1, 0, 1, 0]),
        ("mood!=so so", [1, 1, 1, 0]),
        ("size>1", [0, 1, 1, 0]),
        ("size <= 0.5", [1, 0, 0, 1]),
    ],
)
def test_comparisons(spec: str, expected: list[int]) -> None:
    assert members(spec, ATTRIBUTES).astype(int).tolist() == expected


def test_a_bare_name_is_every_value_against_the_rest() -> None:
    assert expand(["body", "size>1", "body=3"], ATTRIBUTES) == ["body=0", "body=1", "body=3", "size>1"]
    assert expand(["mood"], ATTRIBUTES) == ["mood=glad", "mood=sad", "mood=so so"]
    assert expand(["flip"], ATTRIBUTES) == ["flip=1"]  # of two values one says all


def test_a_scale_is_cut_at_its_median() -> None:
    assert expand(["age"], {"age": np.arange(101) / 4}) == ["age>12.5"]


def test_splitting() -> None:
    assert split("a != b") == ("a", "!=", "b")
    assert split("a>=2") == ("a", ">=", "2")
    assert split("a") == ("a", "", "")


@pytest.mark.parametrize(
    ("spec", "word"), [("tail=1", "no attribute 'tail'; the samples have body, flip, mood, size"), ("body=big", "word")]
)
def test_what_makes_no_sense_is_refused(spec: str, word: str) -> None:
    with pytest.raises(UserError, match=word):
        members(expand([spec], ATTRIBUTES)[0], ATTRIBUTES)
