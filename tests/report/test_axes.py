"""Axes: numbers as swept, choices in their order."""

import pytest

from wplus.report.axes import axis, scale


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([1, 2, 3, 4], "number"),
        ([1, 2, 4, 8], "log"),
        ([0.1, 0.3, 1, 3], "log"),
        ([0.1, 1.0], "log"),
        ([1, 2], "number"),
        ([0.0, 0.5, 1.0], "number"),
        ([0, 0.1, 1, 10], "choice"),  # 0 has no place on a logarithmic axis
        ([-1, 0, 1], "number"),
        ([5], "number"),
        ([10, 20, 40, 50], "number"),
    ],
)
def test_scales(numbers, kind):
    assert scale(numbers) == kind


def test_an_axis_says_where_each_row_stands():
    assert axis("inverter.loss_weights.perceptual", [1, 0.1, 1]) == {
        "key": "inverter.loss_weights.perceptual", "label": "perceptual", "kind": "log", "ticks": ["0.1", "1"],
        "tick_at": [0.1, 1.0], "at": [1.0, 0.1, 1.0],
    }  # fmt: skip
    zero = axis("k", [10, 0, 0.1, 1])
    assert (zero["ticks"], zero["at"], zero["tick_at"]) == (["0", "0.1", "1", "10"], [3, 0, 1, 2], [0, 1, 2, 3])


def test_what_was_looked_for_by_factors_is_logarithmic_and_has_short_numbers():
    found = axis("k", [0.123456789, 0.3, 0.4], is_log=True)
    assert (found["kind"], found["ticks"]) == ("log", ["0.1235", "0.3", "0.4"])
    assert axis("k", [0.0, 0.3, 0.4], is_log=True)["kind"] == "number"
    assert axis("k", [1.00001, 1.00002])["ticks"] == ["1.00001", "1.00002"]


def test_choices_stand_in_their_order_and_classes_by_their_last_word():
    found = axis("inverter._target_", ["wplus.a.B", None, "wplus.a.C"], order=[None, "wplus.a.C", "wplus.a.B"])
    assert (found["label"], found["kind"], found["ticks"], found["at"]) == (
        "inverter", "choice", ["null", "C", "B"], [2, 0, 1]
    )  # fmt: skip
    assert axis("flag", [True, False])["kind"] == "choice"
