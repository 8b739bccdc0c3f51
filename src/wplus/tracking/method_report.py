"""Methods side by side in a report: numbers called GROUP/METHOD/NUMBER become a chart and a row for each number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wplus.tracking.chart import interval_chart
from wplus.tracking.numbers import cell, explanation, shared_protocol

_OPEN_CHARTS = 9  # the others fold away
_OPEN_METHODS = 8  # the table of more methods folds away: it is wider than a screen
_CONVINCING = 0.05

Values = Mapping[str, Mapping[str, Any]]


def method_tables(
    folder: Path, values: Values, files: Mapping[str, str]
) -> tuple[dict[str, Mapping[str, Any]], list[dict[str, Any]]]:
    """The values that stand alone, and what the page shows of every group of methods.

    A number belongs to a group when its name has three parts, GROUP/METHOD/NUMBER, the middle one as long as it likes,
    and the group has several methods. Where the table GROUP/paired was tracked (`wplus.core.tables.PAIRED_CELLS`), the
    differences from the baseline are shown as well.
    """
    groups: dict[str, dict[str, dict[str, Mapping[str, Any]]]] = {}
    for name, entry in values.items():
        group, _, rest = name.partition("/")
        method, _, number = rest.rpartition("/")
        if method:
            groups.setdefault(group, {}).setdefault(method, {})[number] = entry
    groups = {group: methods for group, methods in groups.items() if len(methods) > 1}
    alone = {
        name: entry for name, entry in values.items() if name.partition("/")[0] not in groups or name.count("/") < 2
    }
    tables = [
        _table(group, methods, _paired(folder, files.get(f"{group}/paired"))) for group, methods in groups.items()
    ]
    return alone, tables


def _table(group: str, methods: Mapping[str, Values], paired: dict[str, Any] | None) -> dict[str, Any]:
    names = list(dict.fromkeys(name for entries in methods.values() for name in entries))
    rows = [_row(name, {method: entries[name] for method, entries in methods.items() if name in entries}, methods)
            for name in names]  # fmt: skip
    return {
        "group": group,
        "methods": list(methods),
        "rows": rows,
        "charts": rows[:_OPEN_CHARTS],
        "more_charts": rows[_OPEN_CHARTS:],
        "is_narrow": len(methods) <= _OPEN_METHODS,
        "paired": paired,
    }


def _row(name: str, entries: Values, methods: Mapping[str, Values]) -> dict[str, Any]:
    bars = {method: (float(entry["value"]), entry.get("interval")) for method, entry in entries.items()}
    return {
        "name": name,
        "explanation": explanation(name, *entries.values()),
        "cells": [cell(entries.get(method)) for method in methods],
        "protocol": shared_protocol(entries),
        "svg": interval_chart(bars, x_label=name.replace("_", " ")),
    }


def _paired(folder: Path, file: str | None) -> dict[str, Any] | None:
    """Methods by scores: the difference from the baseline, its bounds, and whether the test is convinced."""
    try:
        content = json.loads((folder / file).read_text()) if file else {}
    except (OSError, ValueError):
        return None
    found = [dict(zip(content["columns"], row, strict=True)) for row in content.get("rows", [])]
    if not found:
        return None
    scores = list(dict.fromkeys(str(each["score"]) for each in found))
    return {"scores": scores, "rows": _paired_rows(found, scores)}


def _paired_rows(found: Sequence[Mapping[str, Any]], scores: Sequence[str]) -> list[dict[str, Any]]:
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for each in found:
        bounds = "" if each["low"] is None else f"{each['low']:+.4g} to {each['high']:+.4g}"
        p = "no test" if each["p_holm"] is None else f"p {each['p_holm']:.1g}"
        cells.setdefault(each["method"], {})[each["score"]] = {
            "value": f"{each['difference']:+.4g}",
            "interval": ", ".join(filter(None, [bounds, p])),
            "title": f"higher on {each['higher']:.0%} of {each['num_items']}, effect {each['effect']:+.2f}",
            "is_clear": each["p_holm"] is not None and each["p_holm"] < _CONVINCING,
        }
    return [{"method": method, "cells": [own.get(score) for score in scores]} for method, own in cells.items()]
