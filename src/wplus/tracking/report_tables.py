"""Numbers as a report shows them: value, bounds, meaning, protocol line by line; methods side by side."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wplus.core.metric_result import ARROWS
from wplus.tracking.charts import interval_chart

_OPEN_CHARTS = 9  # the others fold away
_OPEN_METHODS = 8  # the table of more methods folds away: it is wider than a screen
_CONVINCING = 0.05

Entry = Mapping[str, Any]
"""What `MetricResult.entry()` gives, as it was read back: `value` and perhaps the rest."""
Values = Mapping[str, Entry]


def number_rows(values: Values) -> list[dict[str, Any]]:
    """One row per number."""
    return [_row(last(name), {"": entry}, [""]) for name, entry in values.items()]


def comparison_rows(methods: Mapping[str, Values]) -> list[dict[str, Any]]:
    """Methods (or spaces) by numbers: a row for every number that any of them has, a cell for each."""
    names = dict.fromkeys(name for values in methods.values() for name in values)
    return [_row(name, {m: values[name] for m, values in methods.items() if name in values}, methods) for name in names]


def method_table(
    folder: Path, key: str, methods: Mapping[str, Values], files: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What the page shows of methods that were tracked as `key`: their numbers, charts of them, and the differences
    from the baseline, where the table `<key>_paired` was tracked (`wplus.core.tables.PAIRED_CELLS`)."""
    rows = comparison_rows(methods)
    for row in rows:
        bars = {
            method: (float(values[row["name"]]["value"]), values[row["name"]].get("interval"))
            for method, values in methods.items()
            if row["name"] in values
        }
        unit = f", {row['unit']}" if row["unit"] else ""
        row["svg"] = interval_chart(bars, x_label=row["name"].replace("_", " ") + unit)
    return {
        "group": last(key),
        "methods": list(methods),
        "rows": rows,
        "charts": rows[:_OPEN_CHARTS],
        "more_charts": rows[_OPEN_CHARTS:],
        "is_narrow": len(methods) <= _OPEN_METHODS,
        "paired": _paired(folder, next(iter(files.get(f"{key}_paired", ())), None)),
    }


def plain_text(value: Any) -> str:
    """Four significant digits of a float; anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def last(name: str) -> str:
    """The part of a name behind its last slash."""
    return name.rsplit("/", 1)[-1]


def _row(name: str, entries: Values, methods: Iterable[str]) -> dict[str, Any]:
    def said(key: str) -> str:
        return next((str(entry[key]) for entry in entries.values() if entry.get(key)), "")

    return {
        "name": name,
        "arrow": ARROWS.get(said("direction"), ""),  # type: ignore[call-overload]
        "better": said("direction"),
        "unit": "" if name.endswith(f"_{said('unit').lower()}") else said("unit"),
        "meaning": said("meaning"),
        "cells": [_cell(entries.get(method)) for method in methods],
        "protocol": _protocol(entries),
    }


def _cell(entry: Entry | None) -> dict[str, str]:
    """Value and interval as text; a dash where there is none, and no interval where it has no width."""
    if entry is None:
        return {"value": "–", "interval": ""}
    low, high = entry.get("interval") or (None, None)
    interval = "" if low == high else f"{plain_text(low)} to {plain_text(high)}"
    return {"value": plain_text(entry.get("value")), "interval": interval}


def _protocol(entries: Values) -> list[tuple[str, str]]:
    """The lines of a number's protocol by all methods; what is equal in all of them is said once."""
    protocols = {method: dict(_flat(entry["protocol"])) for method, entry in entries.items() if entry.get("protocol")}
    lines = []
    for name in dict.fromkeys(name for protocol in protocols.values() for name in protocol):
        texts = {method: protocol.get(name, "–") for method, protocol in protocols.items()}
        same = len(set(texts.values())) == 1
        lines.append((name, next(iter(texts.values())) if same else ", ".join(f"{m}: {t}" for m, t in texts.items())))
    return lines


def _flat(protocol: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested mappings as `a.b` -> text."""
    for name, value in protocol.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", plain_text(value)


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


def _paired_rows(found: Sequence[Entry], scores: Sequence[str]) -> list[dict[str, Any]]:
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for each in found:
        bounds = "" if each["low"] == each["high"] else f"{each['low']:+.4g} to {each['high']:+.4g}"
        p = "no test" if each["p_holm"] is None else f"p {each['p_holm']:.1g}"
        cells.setdefault(each["method"], {})[each["score"]] = {
            "value": f"{each['difference']:+.4g}",
            "interval": ", ".join(filter(None, [bounds, p])),
            "title": f"higher on {each['higher']:.0%} of {each['num_items']}, effect {each['effect']:+.2f}",
            "is_clear": each["p_holm"] is not None and each["p_holm"] < _CONVINCING,
        }
    return [{"method": method, "cells": [own.get(score) for score in scores]} for method, own in cells.items()]
