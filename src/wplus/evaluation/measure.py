"""The loop that runs metrics: first all plan, then all measure, so that what they need alike is computed once.

A metric is a callable `metric(bench)` that yields `MetricResult`s; whoever calls decides what to print and where to
log. It is a partial of a function, or an object with `__call__(bench)` and `plan(bench)`; in `plan` it asks for what it
will read of the images (`bench.generated(...).collect(...)`). A new metric is one such function or class and one file
in configs/metrics/.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from wplus.core.metric_result import MetricResult
from wplus.errors import UserError
from wplus.evaluation.bench import EvalContext
from wplus.tracking import Tracker

_NUM_SHOWN = 6  # numbers of a method in a terminal
Metric = Callable[[EvalContext], Iterator[MetricResult]]
_SHOWN = ("extractor", "distance", "classifier", "num_real", "num_other_real", "num_generated", "samples",
          "num_samples", "truncation_psi", "noise_mode", "seed", "weights", "seconds")  # fmt: skip


def measure(bench: EvalContext, metrics: Mapping[str, Metric]) -> Iterator[MetricResult]:
    """All measurements of `measured`, one after the other."""
    for measurements in measured(bench, metrics):
        yield from measurements


def measured(bench: EvalContext, metrics: Mapping[str, Metric]) -> Iterator[Iterator[MetricResult]]:
    """Run every metric; yields, for each, its measurements as they come. Protocols get the seconds it took until then.

    What several metrics share is part of the seconds of the first that needs it; what is done with a measurement
    before the next one is asked for is not.
    """
    if bench.samples is None and "generator" not in bench.models.networks:
        raise UserError("The checkpoint has no generator, so there is nothing to measure.")
    for metric in metrics.values():
        if hasattr(metric, "plan"):
            metric.plan(bench)
    for metric in metrics.values():
        yield _timed(metric(bench))


def _timed(measurements: Iterator[MetricResult]) -> Iterator[MetricResult]:
    seconds, began = 0.0, time.perf_counter()
    for measurement in measurements:
        seconds += time.perf_counter() - began
        yield replace(measurement, protocol=measurement.protocol | {"seconds": round(seconds, 2)})
        began = time.perf_counter()


def report(metrics: Iterable[Iterable[MetricResult]], tracker: Tracker) -> Iterator[MetricResult]:
    """Pass on the measurements of each metric as they come, and log them when it ends, be it by an error.

    A table of all is logged at the end.
    """
    rows = []
    for measurements in metrics:
        entries = {}
        try:
            for m in measurements:
                low, high = m.interval or (None, None)
                entries[m.name] = m.entry()
                rows.append([m.name, m.value, low, high, in_words(m.protocol)])
                yield m
        finally:
            tracker.summary(entries)
    tracker.table("evaluation/metrics", ["metric", "value", "low", "high", "protocol"], rows)


def table(measurements: Iterable[MetricResult]) -> Any:
    """For a terminal: name, value, 95 % interval, and the protocol in a few words.

    Numbers called GROUP/METHOD/NUMBER make a row for each method, with the first few numbers; the whole of it is
    GROUP/table.md in the output folder. Behind the method's name stands its `caveat`, where its protocol has one.
    """
    from rich.console import Group

    every = list(measurements)
    rows = [m for m in every if not _is_of_method(m)]
    groups = dict.fromkeys(m.name.split("/")[0] for m in every if _is_of_method(m))
    of_methods = [_methods(group, [m for m in every if m.name.startswith(f"{group}/")]) for group in groups]
    return Group(*([_rows(rows)] if rows else []), *of_methods)


def _is_of_method(measurement: MetricResult) -> bool:
    return measurement.name.count("/") > 1


def _methods(group: str, measurements: Iterable[MetricResult]) -> Any:
    from rich.console import Group
    from rich.table import Table

    values: dict[str, dict[str, float]] = {}
    for m in measurements:
        _, method, number = m.name.split("/", 2)
        values.setdefault(with_caveat(method, m.protocol.get("caveat")), {})[number] = m.value
    numbers = list(dict.fromkeys(number for each in values.values() for number in each))
    shown = numbers[:_NUM_SHOWN]
    caption = f"{len(shown)} of {len(numbers)} numbers; all with intervals: {group}/table.md in the output folder"
    rows = Table(box=None, header_style="bold", pad_edge=False)
    rows.add_column(group, no_wrap=True)
    for number in shown:
        rows.add_column(number.replace("_", "\n"), justify="right")  # one below the other: all fit into 80 columns
    for method, each in values.items():
        rows.add_row(method, *(f"{each[number]:.3g}" if number in each else "–" for number in shown))
    return Group(rows, caption)


def with_caveat(method: str, caveat: str | None) -> str:
    """A method's name as tables show it: with what must be said of all its numbers, where there is such a thing."""
    return f"{method} ({caveat})" if caveat else method


def _rows(measurements: Iterable[MetricResult]) -> Any:
    from rich.table import Table

    rows, before = Table(box=None, header_style="bold"), None
    rows.add_column("metric", overflow="fold")  # a name that is cut is no name
    rows.add_column("value", justify="right", no_wrap=True)
    rows.add_column("95 % interval", justify="right")
    rows.add_column("measured with")
    for m in measurements:
        bounds = "" if m.interval is None else f"{m.interval[0]:.4g} .. {m.interval[1]:.4g}"
        words = in_words({key: value for key, value in m.protocol.items() if key != "seconds"})
        shown = "as above" if words == before else words
        if "seconds" in m.protocol:
            shown = f"{shown}, seconds {m.protocol['seconds']}"
        rows.add_row(m.name, f"{m.value:.4g}", bounds, shown)
        before = words
    return rows


def in_words(protocol: Mapping[str, Any]) -> str:
    """The entries of a protocol that decide most, as `key value, ...`; the whole of it stands in result.json."""
    return ", ".join(f"{key.replace('_', ' ')} {protocol[key]}" for key in _SHOWN if protocol.get(key) is not None)
