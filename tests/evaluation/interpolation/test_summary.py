import functools
import json

import numpy as np
import pytest
import torch

from wplus.core.stats import proportion_interval
from wplus.errors import UserError
from wplus.evaluation.interpolation.pairs import STRATA, Pair, PairList
from wplus.evaluation.interpolation.realism import RealFeatures, realism, resamples, shown_frames
from wplus.evaluation.interpolation.summary import check_threshold, judged, means, passed, summarise
from wplus.evaluation.interpolation.tables import markdown
from wplus.evaluation.interpolation.trajectories import PairResult
from wplus.interpolation.path import even_positions
from wplus.interpolation.path_metrics.frames import BACKTRACK, ENDPOINT_MISS, fidelity
from wplus.interpolation.path_metrics.ppl import PAIR_PPL, RELATIVE_PPL
from wplus.interpolation.path_metrics.shape import CHORD, STEP_CV, TORTUOSITY, steps

T = even_positions(17)
PLACES = shown_frames(T, frames_per_bin=1)
KNOWN = (CHORD, STEP_CV, TORTUOSITY, BACKTRACK.by("net"), ENDPOINT_MISS, PAIR_PPL.by("net"), RELATIVE_PPL)
NUMBERS = {number.name: number for number in KNOWN}


def features(shift=0.0):
    return {place: torch.randn(len(rows), 5) + shift * (place == "middle") for place, rows in PLACES.items()}


def pairs(num):
    return PairList(tuple(Pair(f"a{i}", f"b{i}", STRATA[i % 3], 1.0) for i in range(num)), "data", {})


def result_of(rows, frames):
    numbers = {name: NUMBERS[name] for row in rows.values() for name in row}
    return PairResult(rows, numbers, {name: {} for name in rows}, frames)


def summary_of(results, real=None, **options):
    real = RealFeatures(torch.randn(20, 5)) if real is None else real
    shared = {"real": real, "extractor": "net", "t": T, "baseline": "one"}
    return summarise(results, pairs(len(results)), **{**shared, **options})


def test_a_column_that_the_first_pair_lacks_is_tested_and_one_for_files_is_not():
    results = {}
    for number, pair in enumerate(pairs(8).pairs):  # the images of the first pair are the same person
        also = [{"backtrack_net": 0.1 * number + more} if number else {} for more in (0, 0.5)]
        rows = {"one": {"tortuosity": 1.0 + number, "chord": 1.0, **also[0]},
                "two": {"tortuosity": 3.0 + number, "chord": 2.0, **also[1]}}  # fmt: skip
        results[pair.name] = result_of(rows, dict.fromkeys(rows, features()))
    tested = summary_of(results).paired["two"]
    assert set(tested) == {"tortuosity", "backtrack_net"}
    assert (tested["backtrack_net"].difference, tested["backtrack_net"].num_items) == (pytest.approx(0.5), 7)


def test_path_lengths_leave_out_the_extremes_and_nothing_else_does():
    """Of 200 pairs only the smallest and the largest lie outside of the 1st and the 99th percentile."""
    values = np.random.default_rng(0).permutation(np.concatenate([[-1e6], np.arange(198.0), [1e7]]))
    names = ("relative_ppl", "pair_ppl_net", "tortuosity")
    found = means({f"pair {i}": dict.fromkeys(names, v) for i, v in enumerate(values)}, NUMBERS)
    for name in names[:2]:
        assert found[name].value == pytest.approx(np.arange(198.0).mean())
        assert found[name].interval[0] < found[name].value < found[name].interval[1]
    assert found["tortuosity"].value == pytest.approx(values.mean())


def test_the_least_even_pair_is_told():
    rows = {"a": {"step_cv": 0.02, "chord": 3.0}, "b": {"step_cv": 0.2, "chord": 1.0}, "c": {"chord": 9.0}}
    found = means(rows, NUMBERS)
    assert (found["step_cv_max"].value, found["step_cv_max"].interval) == (0.2, None)
    assert found["step_cv"].value == pytest.approx(0.11)
    assert list(found) == ["step_cv", "step_cv_max", "chord"]
    assert "step_cv_max" not in means({"a": {"chord": 3.0}}, NUMBERS)


@pytest.fixture
def results():
    """Twelve pairs; the ends of `one` pass on all, of `two` on all but the first three, of `bad` only on the fourth."""
    found = {}
    for i, pair in enumerate(pairs(12).pairs):
        misses = {"one": 0.1, "two": 0.9 if i < 3 else 0.2, "bad": 0.1 if i == 3 else 0.8}
        rows = {name: {"endpoint_miss": miss, "tortuosity": i + miss} for name, miss in misses.items()}
        found[pair.name] = result_of(rows, {name: features(shift=4.0 * (name == "two")) for name in rows})
    return found


def test_strata_have_the_means_of_their_pairs_and_sets_the_difference_from_the_baseline(results):
    found, name = summary_of(results), "kd_net_middle"
    for number, stratum in enumerate(STRATA):
        expected = np.mean([i + 0.1 for i in range(number, 12, 3)])
        assert found.strata[stratum]["one"]["tortuosity"].value == pytest.approx(expected)
    assert set(found.sets) == {"two", "bad"}
    difference = found.sets["two"][name]
    assert difference.value == pytest.approx(found.means["two"][name].value - found.means["one"][name].value)
    assert difference.interval[0] > 0  # the middle of `two` is far from the real images


def test_where_the_endpoints_of_the_others_pass(results):
    real = RealFeatures(torch.randn(20, 5))
    found = summary_of(results, real, endpoint_threshold=0.5)
    for method, share in {"one": 1, "two": 0.75, "bad": 1 / 12}.items():
        passing = found.means[method]["endpoints_pass"]
        assert passing.value == pytest.approx(share)
        assert passing.interval == pytest.approx(proportion_interval(share, 12))
    assert found.passing.failing == ("bad",)
    assert list(found.where_passing) == ["one", "two"]
    assert found.where_passing["two"]["tortuosity"].value == pytest.approx(np.mean([i + 0.2 for i in range(3, 12)]))
    some = [result.features["two"] for result in list(results.values())[3:]]
    frames = {place: torch.stack([each[place] for each in some]) for place in PLACES}
    alone = realism(frames, real, weights=resamples(9, seed=0), extractor="net")
    assert found.where_passing["two"]["kd_net_mid_dip"].value == pytest.approx(alone.values["kd_net_mid_dip"].value)
    assert "endpoints_pass" not in found.paired["two"]
    content = json.loads(json.dumps(found.as_dict()))
    assert (content["passing"]["failing"], len(content["passing"]["pairs"])) == (["bad"], 9)
    assert content["numbers"]["endpoints_pass"]["direction"] == "higher"
    assert list(found.numbers)[:3] == ["endpoints_pass", "endpoint_miss", "tortuosity"]
    assert set(found.numbers) == {name for each in found.means.values() for name in each}


def test_the_table_says_whose_endpoints_fail_and_what_its_columns_are(results):
    text = markdown(summary_of(results, endpoint_threshold=0.5))
    for words in ("On most pairs they fail with bad:", "| bad (endpoints fail) | 0.08 (",
                  "With all other methods they pass on 9 of 12 pairs, whose own numbers are below.",
                  f"- `tortuosity`: {TORTUOSITY.meaning}"):  # fmt: skip
        assert words in text
    below = text[text.index("### Pairs whose endpoints pass") : text.index("### By distance")]
    assert "| two |" in below
    assert "kd_net_mid_dip ↓" in below
    assert "bad" not in below
    assert "`endpoint_miss`" not in text  # for files alone
    strict = markdown(summary_of(results, endpoint_threshold=0.15))
    assert "pass on 12 of 12 pairs" in strict  # those of `one`
    few = markdown(summary_of({name: results[name] for name in list(results)[:7]}, endpoint_threshold=0.5))
    assert "pass on 4 of 7 pairs, too few for numbers of their own." in few
    assert "### Pairs whose endpoints pass" not in few
    assert "Endpoints pass" not in markdown(summary_of(results))
    assert "discriminator saw effnet_lite0:" in markdown(summary_of(results), saw=["effnet_lite0"])


def rows(*misses):
    return {f"pair {index}": {"endpoint_miss": miss, "step_cv": 0.1} for index, miss in enumerate(misses)}


def test_each_pair_passes_or_not():
    found = judged(rows(0.2, 0.5, 0.51, float("nan")), 0.5)
    assert [row["endpoints_pass"] for row in found.values()] == [1, 1, 0, 0]
    assert list(found["pair 0"]) == ["endpoints_pass", "endpoint_miss", "step_cv"]
    assert judged(rows(0.2), None) == rows(0.2)
    assert "endpoints_pass" not in judged({"pair 0": {"step_cv": 0.1}}, 0.5)["pair 0"]  # its images are equal


def test_a_method_fails_where_most_pairs_do():
    methods = {"good": rows(0.1, 0.2, 0.6, 0.1), "half": rows(0.1, 0.7, 0.1, 0.9), "bad": rows(0.9, 0.1, 0.8, 0.7)}
    found = passed({name: judged(each, 0.5) for name, each in methods.items()}, 0.5)
    assert (found.failing, found.pairs, found.limit) == (("bad",), ("pair 0",), 0.5)  # pairs of those that do not fail
    assert passed(methods, None) is None
    with_dissolve = {"bad": judged(rows(0.9), 0.5), "cross_dissolve": judged(rows(0.0), 0.5)}
    assert passed(with_dissolve, 0.5).pairs == ()


def test_what_a_threshold_needs():
    check_threshold(0.5, {"ends": functools.partial(fidelity), "steps": steps})
    check_threshold(None, {"steps": steps})
    with pytest.raises(UserError, match=r"include fidelity for endpoint_threshold=0\.5.*endpoint_threshold=null"):
        check_threshold(0.5, {"fidelity": steps})
    for wrong in (0, float("nan")):
        with pytest.raises(UserError, match=f"endpoint_threshold must be above 0, .*got {wrong}"):
            check_threshold(wrong, {"fidelity": fidelity})
