from __future__ import annotations

import functools

import pytest

from wplus.errors import UserError
from wplus.evaluation.interpolation.gate import check_gate, judged, passed
from wplus.interpolation.path_metrics.fidelity import fidelity
from wplus.interpolation.path_metrics.steps import steps


def rows(*misses: float) -> dict[str, dict[str, float]]:
    return {f"pair {index}": {"end_miss": miss, "step_cv": 0.1} for index, miss in enumerate(misses)}


def test_each_pair_passes_or_not():
    found = judged(rows(0.2, 0.5, 0.51, float("nan")), 0.5)
    assert [row["ends_pass"] for row in found.values()] == [1, 1, 0, 0]
    assert list(found["pair 0"]) == ["ends_pass", "end_miss", "step_cv"]
    assert judged(rows(0.2), None) == rows(0.2)
    assert "ends_pass" not in judged({"pair 0": {"step_cv": 0.1}}, 0.5)["pair 0"]  # its images are equal


def test_a_method_fails_where_most_pairs_do():
    methods = {"good": rows(0.1, 0.2, 0.6, 0.1), "half": rows(0.1, 0.7, 0.1, 0.9), "bad": rows(0.9, 0.1, 0.8, 0.7)}
    found = passed({name: judged(each, 0.5) for name, each in methods.items()}, 0.5)
    assert found.failing == ("bad",)
    assert found.pairs == ("pair 0",)  # of those that do not fail
    assert found.limit == 0.5
    assert passed(methods, None) is None
    with_dissolve = {"bad": judged(rows(0.9), 0.5), "cross_dissolve": judged(rows(0.0), 0.5)}
    assert passed(with_dissolve, 0.5).pairs == ()


def test_what_a_gate_needs():
    check_gate(0.5, {"ends": functools.partial(fidelity), "steps": steps})
    check_gate(None, {"steps": steps})
    with pytest.raises(UserError, match=r"gate=0\.5 needs the walk metric fidelity.*gate=null"):
        check_gate(0.5, {"fidelity": steps})
    for wrong in (0, -1, float("nan")):
        with pytest.raises(UserError, match=f"gate={wrong} is not allowed"):
            check_gate(wrong, {"fidelity": fidelity})
