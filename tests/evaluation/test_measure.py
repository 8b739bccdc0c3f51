import functools
import io
import json
import sys
from dataclasses import replace
from types import ModuleType

import pytest
from rich.console import Console

from wplus.checkpoint import Models
from wplus.config import build
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.errors import UserError
from wplus.evaluation.context import EvalContext
from wplus.evaluation.feature_pass import FeatureRows
from wplus.evaluation.measure import measure, measured, report, table
from wplus.report.page import write_report
from wplus.tracking import Sink, Tracker
from wplus.tracking.local import open_tracker

NUMBER = MetricInfo(meaning="A number.")


def result(name, value=1.0, protocol=None, interval=None, **info):
    return MetricResult.of(replace(NUMBER, **info), name, value, protocol=protocol, interval=interval)


def constant(context, *, value):
    yield result("constant", value, {"seed": context.seed}, (value - 1, value + 1))


def broken(context):
    yield result("first")
    raise RuntimeError("stop")


class Recorder(Sink):
    """What is logged."""

    def __init__(self):
        self.summaries, self.tables = [], {}

    def summary(self, values):
        self.summaries.append(values)

    def table(self, key, columns, rows):
        self.tables[key] = [dict(zip(columns, row, strict=True)) for row in rows]


def test_all_metrics_ask_before_the_first_one_measures(context, extractor):
    happened = []

    def metric(context, *, name):
        happened.append(f"{name} asks")
        rows = context.generated(8).ask(extractor, FeatureRows())

        def results():
            happened.append(f"{name} measures")
            yield result(name, float(rows.value.rows[0, 0]), {"seed": context.seed})

        return results()

    metrics = {name: functools.partial(metric, name=name) for name in "ab"}
    found = list(measure(replace(context, seed=7), {"constant": functools.partial(constant, value=1.0)} | metrics))
    assert [m.name for m in found] == ["constant", "a", "b"]
    assert found[0].protocol["seed"] == 7
    assert found[1].value == found[2].value
    assert happened == ["a asks", "b asks", "a measures", "b measures"]
    measured(context, metrics)
    assert happened[4:] == ["a asks", "b asks"], "before anybody asks for a result"


def test_report_logs_each_metric_when_it_ends_and_a_table():
    recorder = Recorder()
    made = [result("fd", 1.5, {"seed": 0}, (1.0, 2.0), unit="px", direction="lower"), result("ppl", 2.5)]
    stream = report([made[:1], made[1:]], Tracker([recorder], job_type="evaluate"))
    assert next(stream) is made[0]
    assert next(stream) is made[1]
    assert recorder.summaries == [{"evaluate/fd": made[0].entry()}]
    assert made[0].entry() == {"value": 1.5, "protocol": {"seed": 0}, "interval": (1.0, 2.0), "meaning": "A number.",
                               "unit": "px", "direction": "lower"}  # fmt: skip
    assert list(stream) == []
    fd, ppl = recorder.tables["evaluate/metrics"]
    assert fd == {"metric": "fd", "value": 1.5, "unit": "px", "low": 1.0, "high": 2.0, "better": "lower",
                  "meaning": "A number.", "protocol": "seed 0"}  # fmt: skip
    assert (ppl["low"], ppl["high"], ppl["better"]) == (None, None, "neither")


def test_the_numbers_of_a_metric_are_written_together_also_before_an_error(context):
    def many(context, *, group):
        yield from (result(f"{group}{index}") for index in range(3))

    recorder = Recorder()
    metrics = {group: functools.partial(many, group=group) for group in "ab"} | {"c": broken}
    with pytest.raises(RuntimeError, match="stop"):
        list(report(measured(context, metrics), Tracker([recorder], job_type="evaluate")))
    names = [[name.removeprefix("evaluate/") for name in each] for each in recorder.summaries]
    assert names == [["a0", "a1", "a2"], ["b0", "b1", "b2"], ["first"]]


def test_seconds_are_those_of_the_metric_alone(context, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def slow(context):
        for name in ("first", "second"):
            clock[0] += 2.0
            yield result(name)

    seconds = []
    for each in measure(context, {"a": slow, "b": slow}):  # one by one
        clock[0] += 100.0  # somebody writes it down
        seconds.append(each.protocol["seconds"])
    assert seconds == [2.0, 4.0, 2.0, 4.0]


def test_a_checkpoint_without_generator_and_a_value_that_is_no_number_are_refused():
    with pytest.raises(UserError, match="no generator"):
        next(measure(EvalContext(Models()), {"a": constant}))
    with pytest.raises(UserError, match="fd came out as nan"):
        result("fd", float("nan"))
    with pytest.raises(UserError, match="meaning of a number must be a sentence"):
        MetricResult("fd", 1.0, {}, None, " ", "", "lower")
    with pytest.raises(UserError, match="direction must be one of higher, lower, neither, got 'up'"):
        MetricInfo(meaning="A number.", direction="up")


def test_a_metric_from_outside_is_run_shown_and_recorded(context, tmp_path, monkeypatch):
    """One function and one node of a config; nothing in the package knows of it."""
    outside = ModuleType("outside")

    def sharpness(context, *, scale):
        info = MetricInfo(meaning="How sharp edges are.", unit="px", direction="higher")
        yield MetricResult.of(info, "sharpness", scale * 2.0, protocol={"num_generated": 3}, interval=(1.0, 9.0))

    outside.sharpness = sharpness
    monkeypatch.setitem(sys.modules, "outside", outside)
    metrics = {"sharp": build({"_target_": "outside.sharpness", "_partial_": True, "scale": 3.0})}
    with open_tracker(output_dir=tmp_path, job_type="evaluate", name="n") as tracker:
        found = list(report(measured(context, metrics), tracker))
    text = shown(found, 120)
    assert all(part in text for part in ("sharpness", "6 px ↑", "1 .. 9", "num generated 3"))
    entry = json.loads((tmp_path / "result.json").read_text())["values"]["evaluate/sharpness"]
    assert entry == found[0].entry() | {"interval": [1.0, 9.0]}
    page = write_report(tmp_path).read_text()
    assert all(part in page for part in ("sharpness", "How sharp edges are."))


# In a terminal


def shown(results, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(table(results))
    return console.file.getvalue()


def test_numbers_of_methods_make_a_row_for_each_method():
    names = [f"paths/{method}/number_{i}" for method in ("lerp", "slerp") for i in range(8)]
    numbers = [result(name, i % 8 + 0.25, direction="higher") for i, name in enumerate(names)]
    text = shown([*numbers[:-1], result("fd_net", 2.0)], 120)
    (lerp,) = [line.split() for line in text.splitlines() if line.strip().startswith("lerp")]
    assert lerp == ["lerp", "0.25", "1.25", "2.25", "3.25", "4.25", "5.25"]
    assert "6 of 8 numbers; all with intervals: paths/table.md in the output folder" in text
    assert text.count("↑") == 6
    assert "fd_net" in text
    assert "value" not in shown(numbers, 120)
    assert "–" in shown([numbers[0], numbers[1], numbers[8]], 120)


def test_no_word_is_cut_in_eighty_columns():
    names = ["ends_pass", "end_psnr_db", "end_effnet_lite0", "relative_ppl", "tortuosity", "step_cv"]
    numbers = [result(f"paths/{method}/{name}", 0.123, {"caveat": "ends fail"}, direction="lower")
               for method in ("w_lerp", "w+_geodesic_even") for name in names]  # fmt: skip
    text = shown(numbers, 80)
    assert "…" not in text
    assert "tortuosity" in text
    (lerp,) = [line.split() for line in text.splitlines() if line.startswith("w_lerp")]
    assert lerp == ["w_lerp", "(ends", "fail)", *["0.123"] * 6]
    assert text.count("(ends fail)") == 2


def test_the_same_protocol_is_said_once_by_its_numbers_and_short_words_and_no_name_is_cut():
    name = "precision_of_a_very_long_extractor_name_50000_psi0.7_mirror_k5"
    lines = shown([result(name, 1.0, {"extractor": "of_a_very_long_name", "seed": 0})], 60).splitlines()
    assert name in "".join(line.split()[0] for line in lines if line[1:2].strip())
    protocol = {"extractor": "net", "num_real": 40, "sha256": "0123456789abcdef", "cutoff": None, "all": True,
                "interval": "95 %, over 40 images", "provenance": {"weights": "none"}}  # fmt: skip
    rows = [result("kd", 1.0, {**protocol, "seconds": 2.5}), result("kd_std", 0.1, {**protocol, "seconds": 3})]
    lines = shown([*rows, result("fd", 2.0, {"extractor": "other"})], 120).splitlines()
    assert [line.rstrip().split("  ")[-1].strip() for line in lines[1:]] == [
        "extractor net, num real 40, seconds 2.5", "as above, seconds 3", "extractor other",
    ]  # fmt: skip
