"""The loop that runs metrics: first all plan, then all measure, so that what they need alike is computed once.

A metric is a callable `metric(bench)` that yields `Measurement`s; whoever calls decides what to print and where to
log. It is a partial of a function, or an object with `__call__(bench)` and `plan(bench)`; in `plan` it asks for what it
will read of the images (`bench.generated(...).collect(...)`). A new metric is one such function or class and one file
in configs/metrics/.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from wplus.errors import UserError
from wplus.evaluation.bench import Bench
from wplus.measurement import Measurement
from wplus.tracking import Tracker

Metric = Callable[[Bench], Iterator[Measurement]]
_SHOWN = ("extractor", "distance", "classifier", "num_real", "num_other_real", "num_generated", "samples",
          "num_samples", "truncation_psi", "noise_mode", "seed", "weights", "seconds")  # fmt: skip


def measure(bench: Bench, metrics: Mapping[str, Metric]) -> Iterator[Measurement]:
    """Run every metric and yield its measurements as they come; protocols get the seconds it took.

    What several metrics share is part of the seconds of the first that needs it.
    """
    if bench.samples is None and bench.models.generator is None:
        raise UserError("The checkpoint has no generator, so there is nothing to measure.")
    for metric in metrics.values():
        if hasattr(metric, "plan"):
            metric.plan(bench)
    for metric in metrics.values():
        began = time.perf_counter()
        for measurement in metric(bench):
            seconds = round(time.perf_counter() - began, 2)
            yield replace(measurement, protocol=measurement.protocol | {"seconds": seconds})


def report(measurements: Iterable[Measurement], tracker: Tracker) -> Iterator[Measurement]:
    """Log measurements as they come, pass them on, and log a table of all at the end."""
    rows = []
    for m in measurements:
        low, high = m.interval or (None, None)
        tracker.summary({m.name: m.entry()})
        rows.append([m.name, m.value, low, high, in_words(m.protocol)])
        yield m
    tracker.table("evaluation/metrics", ["metric", "value", "low", "high", "protocol"], rows)


def table(measurements: Iterable[Measurement]) -> Any:
    """A rich table: name, value, 95 % interval, and the protocol in a few words."""
    from rich.table import Table

    rows = Table(box=None, header_style="bold")
    for column, justify in (
        ("metric", "left"),
        ("value", "right"),
        ("95 % interval", "right"),
        ("measured with", "left"),
    ):
        rows.add_column(column, justify=justify)  # type: ignore[arg-type]
    for m in measurements:
        bounds = "" if m.interval is None else f"{m.interval[0]:.4g} .. {m.interval[1]:.4g}"
        rows.add_row(m.name, f"{m.value:.4g}", bounds, in_words(m.protocol))
    return rows


def in_words(protocol: Mapping[str, Any]) -> str:
    """The entries of a protocol that decide most, as `key value, ...`; the whole of it stands in result.json."""
    return ", ".join(f"{key.replace('_', ' ')} {protocol[key]}" for key in _SHOWN if protocol.get(key) is not None)
