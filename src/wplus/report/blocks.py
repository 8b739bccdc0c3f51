"""The page's tables as plain data: rows (configurations of a sweep, methods of a comparison) by metrics.

A block is sorted, filtered and drawn by the script, and shown as it is without scripts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wplus.core.metric_result import ARROWS, MetricInfo
from wplus.core.paired import Paired
from wplus.report.axes import axis
from wplus.report.runs import PageRun, Part
from wplus.sweeps.answer import Asked, answering_table
from wplus.sweeps.confirm import confirmed
from wplus.sweeps.members import infos
from wplus.sweeps.sections import findings, first_numbers, notes
from wplus.sweeps.table import Cell, SweepTable, sweep_table

MAX_COMPARISONS = 800
"""Limit on the number of tests for letting every row be the baseline; beyond it only the named baseline has tests."""

Entry = Mapping[str, Any]
"""The output of `MetricResult.entry()` as read from disk: `value`, and optionally the rest."""
Tests = dict[str, dict[str, dict[str, Any]]]


def part_block(part: Part, name: str, asked: Asked) -> dict[str, Any]:
    """The block of a part's runs; `name` identifies the block within a page."""
    table = _table(part, asked)
    groups, deciding = list(table.rows), [*([table.sort] if table.sort else []), *table.objectives]
    members = [_member(run, groups) for run in part.runs if run.group in table.rows]
    return {
        "name": name,
        "noun": "configuration",
        "unit": "run",
        "keys": [_axis(table, key, is_log=key in part.log_keys) for key in table.keys],
        "numbers": [_number(each, table.info.get(each)) for each in dict.fromkeys([*deciding, *table.numbers])],
        "rows": [{"name": group, "cells": _cells(part, table, group)} for group in groups],
        "members": members,
        "has_seeds": any(len(cell.points) > 1 for row in table.rows.values() for cell in row.values()),
        "objective": table.sort,
        "objectives": list(table.objectives),
        "baseline": table.baseline,
        "tests": _all_tests(part, table),
        "paired_by": "seed",
    }


def part_findings(part: Part, asked: Asked) -> dict[str, Any] | None:
    """A part's findings besides means, as printed by `wplus sweep table`: tables of text, and their notes."""
    members = part.table_members
    if members[0].status != "finished" or len(members) < 2:
        return None
    table = answering_table(members, part.specs, asked)
    numbers = first_numbers(table)
    sections, said = findings(table, numbers), notes(table, numbers)
    for folder in part.sweeps:
        more, words = confirmed(folder, table)
        sections, said = [*sections, *more], list(dict.fromkeys([*said, *words]))
    return {"sections": sections, "notes": said} if sections else None


def method_block(run: PageRun, key: str, name: str) -> dict[str, Any]:
    """The block of the methods that a run compared under `key`, paired by item with that run's baseline."""
    methods: Mapping[str, Mapping[str, Entry]] = run.result["methods"][key]
    names = dict.fromkeys(number for values in methods.values() for number in values)
    first = {number: next(values[number] for values in methods.values() if number in values) for number in names}
    baseline, tests = _paired(run, key, list(methods))
    return {
        "name": name,
        "heading": f"{short(key).replace('_', ' ').capitalize()}: {len(methods)} methods side by side",
        "noun": "method",
        "unit": "method",
        "keys": [],
        "numbers": [_number(number, _info(entry)) for number, entry in first.items()],
        "rows": [{"name": method, "cells": {number: _cell_of(entry) for number, entry in values.items()
                                            if isinstance(entry["value"], int | float)}}
                 for method, values in methods.items()],
        "members": [],
        "has_seeds": False,
        "objective": None,
        "objectives": [],
        "baseline": baseline,
        "tests": {} if baseline is None else {baseline: tests},
        "paired_by": "item",
    }  # fmt: skip


def short(name: str) -> str:
    """The part of a name after its last slash."""
    return name.rsplit("/", 1)[-1]


def _table(part: Part, asked: Asked) -> SweepTable:
    """A part's table; every metric with a direction is tested. With several data sets, configurations are separate."""
    members = part.table_members
    if members[0].status != "finished":  # none has finished: show what there is so far
        members = [replace(member, status="finished") for member in members]
    has_sets = bool(asked.across) or any(spec.across for spec in part.specs)
    specs = [replace(spec, margin=None, across=(), baseline={} if has_sets else spec.baseline) for spec in part.specs]
    judging = [name for name, info in infos(members).items() if info.direction != "neither"]
    numbers = [name for name in judging if any(name in member.numbers() for member in members)]
    baseline = None if has_sets else asked.baseline
    return answering_table(members, specs, Asked(numbers=numbers, sort=asked.sort, baseline=baseline))


def _axis(table: SweepTable, key: str, *, is_log: bool) -> dict[str, Any]:
    """The axis of a key, with choices in the order of the runs, which is the sweep's."""
    swept = [settings.get(key) for settings in table.settings.values()]
    return axis(key, [table.settings[group].get(key) for group in table.rows], order=swept, is_log=is_log)


def _member(run: PageRun, groups: Sequence[str]) -> dict[str, Any]:
    return {
        "label": run.label,
        "row": groups.index(run.group),
        "seed": run.member.seed,
        "status": run.member.status,
        "values": run.member.numbers(),
    }


def _number(name: str, info: MetricInfo | None) -> dict[str, Any]:
    info = info or MetricInfo(meaning="Nothing was recorded about it.")
    label = short(name)
    unit = "" if label.endswith(f"_{info.unit.lower()}") and info.unit else info.unit
    return {"name": name, "label": label, "unit": unit, "direction": info.direction,
            "arrow": ARROWS[info.direction], "meaning": info.meaning}  # fmt: skip


def _info(entry: Entry) -> MetricInfo | None:
    meaning = entry.get("meaning")
    return MetricInfo(meaning=meaning, unit=entry.get("unit", ""), direction=entry.get("direction", "neither")) if (
        meaning) else None  # fmt: skip


def _cells(part: Part, table: SweepTable, group: str) -> dict[str, dict[str, Any]]:
    runs = [run for run in part.runs if run.group == group and run.member in part.table_members]
    return {name: _cell(cell, name, runs) for name, cell in table.rows[group].items()}


def _cell(cell: Cell, name: str, runs: Sequence[PageRun]) -> dict[str, Any]:
    """Mean, interval with its unit of resampling, and the value of each seed."""
    points = [[seed, value] for seed, value in cell.points.items()]
    bounds = cell.mean.interval
    over = "seeds"
    if bounds is None and len(points) == 1:
        bounds, over = runs[0].member.values[name].get("interval"), "items"
    low, high = bounds or (None, None)
    return {"value": cell.mean.value, "low": low, "high": high, "over": over, "points": points}


def _cell_of(entry: Entry) -> dict[str, Any]:
    low, high = entry.get("interval") or (None, None)
    return {"value": entry["value"], "low": low, "high": high, "over": "items", "points": []}


def _all_tests(part: Part, table: SweepTable) -> Tests:
    """Baseline -> row -> metric -> difference, with every row as the baseline unless there are too many."""
    num = len(table.rows) * (len(table.rows) - 1) * len(table.numbers)
    if num > MAX_COMPARISONS:
        return {} if table.baseline is None else {table.baseline: _tests(table)}
    members = part.table_members
    return {group: _tests(sweep_table(members, baseline=group)) for group in table.rows if num}


def _tests(table: SweepTable) -> dict[str, dict[str, Any]]:
    return {group: {name: _test(each) for name, each in row.items()} for group, row in table.tests.items()}


def _test(test: Paired) -> dict[str, Any]:
    low, high = test.interval or (None, None)
    return {"difference": test.difference, "low": low, "high": high, "p": test.p_holm, "num": test.num_items}


def _paired(run: PageRun, key: str, methods: Sequence[str]) -> tuple[str | None, dict[str, Any]]:
    """The baseline of the table `<key>_paired` (`wplus.core.tables.PAIRED_CELLS`), and each method's differences."""
    found = list(run.table_rows(f"{key}_paired"))
    compared = {row["method"] for row in found}
    baseline = next((method for method in methods if method not in compared), None) if found else None
    tests: dict[str, Any] = {}
    for row in found:
        tests.setdefault(row["method"], {})[row["score"]] = {
            "difference": row["difference"], "low": row["low"], "high": row["high"], "p": row["p_holm"],
            "num": row["num_items"],
        }  # fmt: skip
    return baseline, tests
