"""Prepare a block for the template: its columns, their initial visibility, and the hints below."""

from collections.abc import Mapping
from typing import Any

from wplus.core.seed_stats import MIN_SEEDS
from wplus.report.runs import Part

_OPEN_COLUMNS = 8  # metrics shown at first; others can be switched on


def dressed(block: dict[str, Any], part: Part) -> dict[str, Any]:
    """A block with its columns, options and hints; `data` is passed to the script."""
    rows = [{**row, "index": index, "num_seeds": _num_seeds(row)} for index, row in enumerate(block["rows"])]
    return {
        **block,
        "rows": rows,
        "keys": [{**key, "swept": key["kind"] != "choice" or _is_numeric(key)} for key in block["keys"]],
        "columns": _columns(block),
        "trade_offs": [number for number in block["numbers"] if number["direction"] != "neither"],
        "example": _example(block),
        "hint": _hint(block, part),
        "difference_hint": _difference_hint(block),
        "dots_hint": _dots_hint(block),
        "band_hint": _band_hint(block),
        "data": block,
    }


def _columns(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns = [{"label": block["noun"], "title": f"Sort by {block['noun']}", "shown": True}]
    if block["has_seeds"]:
        columns.append({"label": "seeds", "title": "Sort by the number of seeds", "shown": True})
    for key in block["keys"]:
        columns.append({"label": key["label"], "title": key["key"], "shown": len(block["keys"]) > 1})
    judging = [number["name"] for number in block["numbers"] if number["direction"] != "neither"]
    first = list(dict.fromkeys([*filter(None, [block["objective"]]), *judging]))[:_OPEN_COLUMNS]
    for number in block["numbers"]:
        unit = f", {number['unit']}" if number["unit"] else ""
        better = "" if number["direction"] == "neither" else f" {number['direction'].capitalize()} is better."
        columns.append({
            "label": f"{number['label']}{unit} {number['arrow']}".strip(), "number": number,
            "title": f"{number['name']}: {number['meaning']}{better} Sort.",
            "shown": number["name"] in first or (not first and len(block["numbers"]) <= _OPEN_COLUMNS),
        })  # fmt: skip
        if number["name"] == block["objective"]:
            columns[-1]["sorted"] = "descending" if number["direction"] == "higher" else "ascending"
    return [{"number": None, "sorted": None, **column} for column in columns]


def _num_seeds(row: Mapping[str, Any]) -> int:
    return max((len(cell["points"]) for cell in row["cells"].values()), default=0)


def _is_numeric(key: Mapping[str, Any]) -> bool:
    try:
        return len(key["ticks"]) > 1 and bool([float(tick) for tick in key["ticks"]])
    except ValueError:
        return False


def _example(block: Mapping[str, Any]) -> str:
    key = next((f"{key['label']}={key['ticks'][0]} " for key in block["keys"] if key["ticks"]), "")
    number = next((number["label"] for number in block["numbers"]), "")
    return f"{key}{number}>..." if number else "words of the name"


def _hint(block: Mapping[str, Any], part: Part) -> str:
    kinds = {cell["over"] for row in block["rows"] for cell in row["cells"].values() if cell["low"] is not None}
    words = [_USE.format(example=_example(block))]
    if block["has_seeds"]:
        words.append(f"Values are means over seeds. With fewer than {MIN_SEEDS} seeds, each seed is listed below.")
    if kinds:
        over = " or ".join({"seeds": "seeds", "items": "the images or pairs of the one run"}[kind] for kind in kinds)
        words.append(f"Below each value is its 95 % interval over {over}.")
    unfinished = len(part.runs) - len(part.table_members)
    if unfinished and block["noun"] == "configuration":
        words.append(f"{unfinished} of {len(part.runs)} runs have not finished and are not included.")
    return " ".join(words)


_USE = (
    "Click a column's header to sort; hover over it for the metric's meaning. A filter consists of words from the name "
    "and conditions such as {example}, with =, !=, <, <=, > and >=."
)
_BY_ITEM = (
    "Δ is the mean difference from the baseline on the same items, with its 95 % interval and p-value of Wilcoxon's "
    "signed-rank test, corrected for all comparisons (Holm); other baselines are not tested."
)
_BY_SEED = (
    f"Δ is the mean difference from the baseline, paired by seed. With {MIN_SEEDS} or more common seeds it has a 95 % "
    "interval and the p-value of a sign-flip test, corrected for all comparisons with that baseline (Holm)."
)


def _difference_hint(block: Mapping[str, Any]) -> str:
    return _BY_ITEM if block["paired_by"] == "item" else _BY_SEED


def _dots_hint(block: Mapping[str, Any]) -> str:
    if not block["has_seeds"]:
        return "Dots are values, lines their 95 % intervals, if any."
    return f"Dots are means, thin strokes the seeds, lines the 95 % intervals with {MIN_SEEDS} or more seeds."


def _band_hint(block: Mapping[str, Any]) -> str:
    lines = "A line for each combination of the other settings"
    if not block["has_seeds"]:
        return f"{lines}."
    band = f"the 95 % interval or, with fewer than {MIN_SEEDS} seeds, their range"
    return f"{lines}: the mean, small dots for the seeds, and a band for {band}."
