from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from wplus.checkpoint import Models
from wplus.core.metric_result import MetricResult
from wplus.errors import UserError
from wplus.evaluation.bench import EvalContext
from wplus.evaluation.measure import measure, measured, report, table
from wplus.tracking import Sink, Tracker


def constant(bench: EvalContext, *, value: float) -> Iterator[MetricResult]:
    yield MetricResult("constant", value, {"seed": bench.seed}, (value - 1, value + 1))


def test_measurements_come_one_by_one_with_their_time(bench: EvalContext) -> None:
    def broken(bench: EvalContext) -> Iterator[MetricResult]:
        yield MetricResult("first", 1.0)
        raise RuntimeError("stop")

    stream = measure(bench, {"a": broken})
    assert next(stream).protocol["seconds"] >= 0
    with pytest.raises(RuntimeError, match="stop"):
        next(stream)


def test_functions_and_objects_are_metrics_and_all_plan_before_the_first_measures(bench: EvalContext) -> None:
    happened = []

    class Metric:
        def plan(self, bench: EvalContext) -> None:
            happened.append("plan")

        def __call__(self, bench: EvalContext) -> Iterator[MetricResult]:
            happened.append("measure")
            yield from constant(bench, value=2.0)

    metrics = {"a": functools.partial(constant, value=1.0), "b": Metric(), "c": Metric()}
    found = list(measure(replace(bench, seed=7), metrics))
    assert [m.value for m in found] == [1.0, 2.0, 2.0]
    assert found[0].protocol["seed"] == 7
    assert happened == ["plan", "plan", "measure", "measure"]


def test_report_logs_each_measurement_and_a_table() -> None:
    class Recorder(Sink):
        def __init__(self) -> None:
            self.values: dict[str, Any] = {}

        def summary(self, values: dict[str, Any]) -> None:
            self.values |= values

        def table(self, key: str, columns: Any, rows: Any) -> None:
            self.values[key] = [dict(zip(columns, row, strict=True)) for row in rows]

    recorder, made = Recorder(), [MetricResult("fd", 1.5, {"seed": 0}, (1.0, 2.0)), MetricResult("ppl", 2.5)]
    stream = report([made[:1], made[1:]], Tracker([recorder]))
    assert next(stream) is made[0]
    assert next(stream) is made[1]
    assert recorder.values == {"fd": {"value": 1.5, "protocol": {"seed": 0}, "interval": (1.0, 2.0), "meaning": ""}}
    assert list(stream) == []
    assert [row["low"] for row in recorder.values["evaluation/metrics"]] == [1.0, None]


class Writes(Sink):
    """Which names each summary has."""

    def __init__(self) -> None:
        self.names: list[list[str]] = []

    def summary(self, values: dict[str, Any]) -> None:
        self.names.append(list(values))


def test_the_numbers_of_a_metric_are_written_together(bench: EvalContext) -> None:
    def many(bench: EvalContext, *, group: str) -> Iterator[MetricResult]:
        yield from (MetricResult(f"{group}{index}", 1.0) for index in range(3))

    writes = Writes()
    metrics = {group: functools.partial(many, group=group) for group in "ab"}
    assert len(list(report(measured(bench, metrics), Tracker([writes])))) == 6
    assert writes.names == [["a0", "a1", "a2"], ["b0", "b1", "b2"]]


def test_what_came_before_an_error_is_written(bench: EvalContext) -> None:
    def broken(bench: EvalContext) -> Iterator[MetricResult]:
        yield MetricResult("first", 1.0)
        raise RuntimeError("stop")

    writes = Writes()
    with pytest.raises(RuntimeError, match="stop"):
        list(report(measured(bench, {"a": broken}), Tracker([writes])))
    assert writes.names == [["first"]]


def test_seconds_are_those_of_the_metric_alone(bench: EvalContext, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def slow(bench: EvalContext) -> Iterator[MetricResult]:
        for name in ("first", "second"):
            clock[0] += 2.0
            yield MetricResult(name, 1.0)

    seconds = []
    for measurement in measure(bench, {"a": slow, "b": slow}):
        clock[0] += 100.0  # somebody writes it down
        seconds.append(measurement.protocol["seconds"])
    assert seconds == [2.0, 4.0, 2.0, 4.0]


def test_an_empty_batch_is_refused(models: Models) -> None:
    with pytest.raises(UserError, match="batch_size=0"):
        EvalContext(models, batch_size=0)


@pytest.mark.parametrize("seed", [-1, 0.5, "a"])
def test_what_is_no_seed_is_refused(models: Models, seed: Any) -> None:
    with pytest.raises(UserError, match=f"seed={seed} is not allowed"):
        EvalContext(models, seed=seed)


def test_a_checkpoint_without_generator_is_refused() -> None:
    with pytest.raises(UserError, match="no generator"):
        next(measure(EvalContext(Models()), {"a": constant}))


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(UserError, match="fd came out as nan"):
        MetricResult("fd", float("nan"))


def test_the_table_shows_value_interval_and_protocol() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(table([MetricResult("fd_net", 12.3456, {"extractor": "net", "num_real": 40}, (11.0, 13.5))]))
    shown = console.file.getvalue()
    assert all(part in shown for part in ("fd_net", "12.35", "11 .. 13.5", "extractor net, num real 40"))


def shown(measurements: list[MetricResult], width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(measurements))
    return console.file.getvalue()


def test_a_long_name_is_whole_in_a_narrow_terminal() -> None:
    name = "precision_of_a_very_long_extractor_name_50000_psi0.7_mirror_k5"
    lines = shown([MetricResult(name, 1.0, {"extractor": "of_a_very_long_name", "seed": 0})], 60).splitlines()
    assert name in "".join(line.split()[0] for line in lines if line[1:2].strip())


def test_numbers_of_methods_make_a_row_for_each_method() -> None:
    numbers = [MetricResult(f"paths/{method}/number_{i}", i + 0.25) for method in ("lerp", "slerp") for i in range(8)]
    text = shown([*numbers[:-1], MetricResult("fd_net", 2.0)], 120)
    (lerp,) = [line.split() for line in text.splitlines() if line.strip().startswith("lerp")]
    assert lerp == ["lerp", "0.25", "1.25", "2.25", "3.25", "4.25", "5.25"]
    assert "6 of 8 numbers; all with intervals: paths/table.md in the output folder" in text
    assert "fd_net" in text
    assert "value" not in shown(numbers, 120)
    assert "–" in shown([numbers[0], numbers[1], numbers[8]], 120)


def test_what_must_be_said_of_a_method_stands_behind_its_name() -> None:
    protocols = {"lerp": {}, "slerp": {"caveat": "ends fail"}}
    numbers = [MetricResult(f"paths/{name}/{i}", i + 0.25, each) for name, each in protocols.items() for i in range(2)]
    lines = [line.split() for line in shown(numbers, 80).splitlines()]
    assert ["lerp", "0.25", "1.25"] in lines
    assert ["slerp", "(ends", "fail)", "0.25", "1.25"] in lines


def test_no_word_is_cut_in_eighty_columns() -> None:
    names = ["ends_pass", "end_psnr_db", "end_effnet_lite0", "relative_ppl", "tortuosity", "step_cv"]
    methods = ("w_lerp", "w+_geodesic_even")
    caveat = {"caveat": "ends fail"}
    text = shown([MetricResult(f"paths/{method}/{name}", 0.123, caveat) for method in methods for name in names], 80)
    assert "…" not in text
    assert "tortuosity" in text
    assert text.count("(ends fail)") == 2


def test_the_same_protocol_is_said_once() -> None:
    protocol = {"extractor": "net", "num_real": 40}
    rows = [
        MetricResult("kd", 1.0, {**protocol, "seconds": 2.5}),
        MetricResult("kd_std", 0.1, {**protocol, "seconds": 3}),
    ]
    lines = shown([*rows, MetricResult("fd", 2.0, {"extractor": "other"})], 120).splitlines()
    assert [line.rstrip().split("  ")[-1].strip() for line in lines[1:]] == [
        "extractor net, num real 40, seconds 2.5", "as above, seconds 3", "extractor other",
    ]  # fmt: skip
