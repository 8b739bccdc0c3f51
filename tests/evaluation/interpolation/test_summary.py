from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from wplus.core.stats import proportion_interval
from wplus.evaluation.interpolation.pairs import STRATA, Pair, PairList
from wplus.evaluation.interpolation.realism import RealFeatures, realism, resamples, shown_frames
from wplus.evaluation.interpolation.report import markdown
from wplus.evaluation.interpolation.summary import Summary, means, summarise
from wplus.evaluation.interpolation.walking import PairResult
from wplus.interpolation.walk import even_positions

T = even_positions(17)
PLACES = shown_frames(T, frames_per_bin=1)


def features(shift: float = 0.0) -> dict[str, torch.Tensor]:
    return {place: torch.randn(len(rows), 5) + shift * (place == "middle") for place, rows in PLACES.items()}


def pairs(num: int) -> PairList:
    return PairList(tuple(Pair(f"a{i}", f"b{i}", STRATA[i % 3], 1.0) for i in range(num)), "data", {})


def summary_of(results: dict[str, PairResult], real: RealFeatures | None = None, **options: object) -> Summary:
    real = RealFeatures(torch.randn(20, 5)) if real is None else real
    shared = {"real": real, "extractor": "net", "t": T, "baseline": "one"}
    return summarise(results, pairs(len(results)), **{**shared, **options})


def test_a_column_that_the_first_pair_lacks_is_tested():
    results = {}
    for number, pair in enumerate(pairs(8).pairs):
        rows = {"one": {"tortuosity": 1.0 + number}, "two": {"tortuosity": 3.0 + number}}
        if number:  # the images of the first pair are the same person
            rows["one"]["backtrack_net"], rows["two"]["backtrack_net"] = 0.1 * number, 0.1 * number + 0.5
        results[pair.name] = PairResult(rows, {name: {} for name in rows}, dict.fromkeys(rows, features()))
    found = summary_of(results)
    assert set(found.paired["two"]) == {"tortuosity", "backtrack_net"}
    assert found.paired["two"]["backtrack_net"].difference == pytest.approx(0.5)
    assert found.paired["two"]["backtrack_net"].num_items == 7


def test_path_lengths_leave_out_the_extremes_and_nothing_else_does():
    """Of 200 pairs the least and the largest lie outside of the 1st and the 99th percentile."""
    values = np.random.default_rng(0).permutation(np.concatenate([[-1e6], np.arange(198.0), [1e7]]))
    found = means({f"pair {i}": {"relative_ppl": v, "pair_ppl_net": v, "tortuosity": v} for i, v in enumerate(values)})
    for name in ("relative_ppl", "pair_ppl_net"):
        assert found[name].value == pytest.approx(np.arange(198.0).mean())
        assert found[name].interval[0] < found[name].value < found[name].interval[1]
    assert found["tortuosity"].value == pytest.approx(values.mean())


def test_the_least_even_pair_is_told():
    found = means({"a": {"step_cv": 0.02, "chord": 3.0}, "b": {"step_cv": 0.2, "chord": 1.0}, "c": {"chord": 9.0}})
    assert (found["step_cv_max"].value, found["step_cv_max"].interval) == (0.2, None)
    assert found["step_cv"].value == pytest.approx(0.11)
    assert "step_cv_max" not in means({"a": {"chord": 3.0}})


@pytest.fixture
def results() -> dict[str, PairResult]:
    """Twelve pairs; the ends of `one` pass on all, of `two` but on the first three, of `bad` on the fourth alone."""
    found = {}
    for i, pair in enumerate(pairs(12).pairs):
        misses = {"one": 0.1, "two": 0.9 if i < 3 else 0.2, "bad": 0.1 if i == 3 else 0.8}
        rows = {name: {"end_miss": miss, "tortuosity": i + miss} for name, miss in misses.items()}
        frames = {name: features(shift=4.0 * (name == "two")) for name in rows}
        found[pair.name] = PairResult(rows, {name: {} for name in rows}, frames)
    return found


def test_a_stratum_has_the_means_of_its_pairs(results):
    found = summary_of(results)
    for number, stratum in enumerate(STRATA):
        expected = np.mean([i + 0.1 for i in range(number, 12, 3)])
        assert found.strata[stratum]["one"]["tortuosity"].value == pytest.approx(expected)


def test_a_difference_of_sets_is_that_of_the_method_from_the_baseline(results):
    found = summary_of(results)
    assert set(found.sets) == {"two", "bad"}
    name = "kd_net_middle"
    difference = found.sets["two"][name]
    assert difference.value == pytest.approx(found.means["two"][name].value - found.means["one"][name].value)
    assert difference.interval[0] > 0  # the middle of `two` is far from the real images


def test_where_the_ends_of_the_others_pass(results):
    real = RealFeatures(torch.randn(20, 5))
    found = summary_of(results, real, gate=0.5)
    assert {method: each["ends_pass"].value for method, each in found.means.items()} == pytest.approx(
        {"one": 1, "two": 0.75, "bad": 1 / 12}
    )
    assert found.means["one"]["ends_pass"].interval == proportion_interval(1, 12)
    assert found.means["bad"]["ends_pass"].interval == pytest.approx(proportion_interval(1 / 12, 12))
    assert found.gate.failing == ("bad",)
    assert list(found.passing) == ["one", "two"]
    assert found.passing["two"]["tortuosity"].value == pytest.approx(np.mean([i + 0.2 for i in range(3, 12)]))
    some = [result.features["two"] for result in list(results.values())[3:]]
    frames = {place: torch.stack([each[place] for each in some]) for place in PLACES}
    alone = realism(frames, real, weights=resamples(9, seed=0), extractor="net")
    assert found.passing["two"]["kd_net_mid_dip"].value == pytest.approx(alone.values["kd_net_mid_dip"].value)
    assert "ends_pass" not in found.paired["two"]
    content = json.loads(json.dumps(found.as_dict()))
    assert content["gate"]["failing"] == ["bad"]
    assert len(content["gate"]["pairs"]) == 9
    assert content["where_ends_pass"]["two"]["tortuosity"]["value"] == pytest.approx(7.2)


def test_the_table_says_whose_ends_fail(results):
    text = markdown(summary_of(results, gate=0.5))
    assert "On most pairs they fail with bad:" in text
    assert "With all other methods they pass on 9 of 12 pairs, whose own numbers are below." in text
    assert "| bad (ends fail) | 0.08 (" in text
    below = text[text.index("### Pairs whose ends pass") : text.index("### By distance")]
    assert "| two |" in below
    assert "bad" not in below
    assert "kd net mid dip" in below
    strict = markdown(summary_of(results, gate=0.15))
    assert "pass on 12 of 12 pairs" in strict  # those of `one`
    few = markdown(summary_of({name: results[name] for name in list(results)[:7]}, gate=0.5))
    assert "pass on 4 of 7 pairs, too few for numbers of their own." in few
    assert "### Pairs whose ends pass" not in few
    assert "Ends pass" not in markdown(summary_of(results))
