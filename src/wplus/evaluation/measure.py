"""Run metrics, and display and log their results.

A metric is a function `metric(context, *, options) -> Iterator[MetricResult]`. The call checks the options and requests
the image features it needs (`context.generated(...).ask(...)`); iterating over its return value does the measuring. All
metrics are called before any is iterated, so shared inputs are computed only once. To add a metric, write one such
function and one file in configs/metrics/.
"""

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from wplus.core.metric_result import ARROWS, MetricResult
from wplus.errors import UserError
from wplus.evaluation.context import EvalContext
from wplus.pretrained.seen import marked_result
from wplus.tracking import Tracker

Metric = Callable[[EvalContext], Iterator[MetricResult]]
_NUM_SHOWN = 6  # numbers per method shown in a terminal
_SHORT = re.compile(r"(?![0-9a-f]{12,}$)[A-Za-z][\w+ -]{0,31}")  # one or a few words, but not a digest


def measure(context: EvalContext, metrics: Mapping[str, Metric]) -> Iterator[MetricResult]:
    """Yield all results of `measured`, one after another."""
    for results in measured(context, metrics):
        yield from results


def measured(context: EvalContext, metrics: Mapping[str, Metric]) -> Iterator[Iterator[MetricResult]]:
    """Call every metric and return an iterator that yields, for each, its results as they are computed. Raises
    UserError before anything is measured if a metric rejects its options. Each protocol gets the seconds elapsed so
    far; results from nets that were used to train the generator are marked (`wplus.pretrained.seen`).

    Work shared by several metrics counts towards the first one that needs it; time the caller spends on a result
    before requesting the next does not count.
    """
    if context.samples is None and "generator" not in context.models.networks:
        raise UserError("The checkpoint has no generator, so there is nothing to measure.")
    started = [metric(context) for metric in metrics.values()]
    return (_timed(results, saw=context.models.saw) for results in started)


def _timed(results: Iterator[MetricResult], *, saw: Collection[str]) -> Iterator[MetricResult]:
    seconds, began = 0.0, time.perf_counter()
    for result in results:
        seconds += time.perf_counter() - began
        result = marked_result(result, saw)
        yield replace(result, protocol=result.protocol | {"seconds": round(seconds, 2)})
        began = time.perf_counter()


def report(metrics: Iterable[Iterable[MetricResult]], tracker: Tracker) -> Iterator[MetricResult]:
    """Pass on the results of each metric as they are computed, and log them when it finishes, even with an error.

    A table of all results is logged at the end.
    """
    rows = []
    for results in metrics:
        alone: list[MetricResult] = []
        methods: dict[str, dict[str, dict[str, Any]]] = {}
        try:
            for result in results:
                low, high = result.interval or (None, None)
                if _is_of_method(result):
                    group, method, name = result.name.split("/")
                    methods.setdefault(group, {}).setdefault(method, {})[name] = result.entry()
                else:
                    alone.append(result)
                rows.append([result.name, result.value, result.unit, low, high, result.direction, result.meaning,
                             in_words(result.protocol)])  # fmt: skip
                yield result
        finally:
            tracker.results(alone)
            for group, values in methods.items():
                tracker.methods(f"evaluate/{group}", values)
    columns = ["metric", "value", "unit", "low", "high", "better", "meaning", "protocol"]
    tracker.table("evaluate/metrics", columns, rows)


# In a terminal


def table(results: Iterable[MetricResult]) -> RenderableType:
    """Build a table: name, value with an arrow showing which direction is better, 95 % interval, short protocol.

    Numbers named GROUP/METHOD/NUMBER become one row per method with the first few numbers; the full table is
    GROUP/table.md in the output folder. If a method's protocol has a `caveat`, it follows the method's name.
    """
    every = list(results)
    rows = [result for result in every if not _is_of_method(result)]
    groups = dict.fromkeys(result.name.split("/")[0] for result in every if _is_of_method(result))
    of_methods = [_methods(group, [each for each in every if each.name.startswith(f"{group}/")]) for group in groups]
    return Group(*([_rows(rows)] if rows else []), *of_methods)


def _is_of_method(result: MetricResult) -> bool:
    return result.name.count("/") > 1


def _methods(group: str, results: Iterable[MetricResult]) -> RenderableType:
    values: dict[str, dict[str, float]] = {}
    headings: dict[str, str] = {}
    for result in results:
        _, method, number = result.name.split("/", 2)
        values.setdefault(with_caveat(method, result.protocol.get("caveat")), {})[number] = result.value
        # One word per line, so that the table fits into 80 columns.
        headings[number] = f"{number}_{ARROWS[result.direction]}".rstrip("_").replace("_", "\n")
    shown = list(headings)[:_NUM_SHOWN]
    caption = f"{len(shown)} of {len(headings)} numbers; all with intervals: {group}/table.md in the output folder"
    rows = Table(box=None, header_style="bold", pad_edge=False)
    rows.add_column(group, overflow="fold")  # fold the names rather than the numbers
    for number in shown:
        rows.add_column(headings[number], justify="right", no_wrap=True)
    for method, each in values.items():
        rows.add_row(method, *(f"{each[number]:.3g}" if number in each else "–" for number in shown))
    return Group(rows, caption)


def with_caveat(method: str, caveat: str | None) -> str:
    """Return a method's name as tables show it, followed by its caveat if it has one."""
    return f"{method} ({caveat})" if caveat else method


def _rows(results: Iterable[MetricResult]) -> Table:
    rows, before = Table(box=None, header_style="bold"), None
    rows.add_column("metric", overflow="fold")  # never truncate a name
    rows.add_column("value", justify="right", no_wrap=True)
    rows.add_column("95 % interval", justify="right")
    rows.add_column("measured with")
    for result in results:
        bounds = "" if result.interval is None else f"{result.interval[0]:.4g} .. {result.interval[1]:.4g}"
        words = in_words({key: value for key, value in result.protocol.items() if key != "seconds"})
        shown = "as above" if words == before else words
        if "seconds" in result.protocol:
            shown = f"{shown}, seconds {result.protocol['seconds']}"
        value = " ".join(filter(None, [f"{result.value:.4g}", result.unit, ARROWS[result.direction]]))
        rows.add_row(result.name, value, bounds, shown)
        before = words
    return rows


def in_words(protocol: Mapping[str, Any]) -> str:
    """Format a protocol's numbers and short strings as `key value, ...`; the full protocol is in result.json."""
    short = {key: value for key, value in protocol.items() if not isinstance(value, bool)
             and (isinstance(value, int | float) or (isinstance(value, str) and _SHORT.fullmatch(value)))}  # fmt: skip
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in short.items())
