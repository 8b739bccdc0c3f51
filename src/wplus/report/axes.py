"""Chart axes derived from a key's values in a sweep: linear or logarithmic numbers, or choices."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from wplus.sweeps.members import short_key, short_value

_LOG_RATIO = 10  # two values with at least this ratio were not spaced evenly


def axis(key: str, values: Sequence[Any], *, order: Sequence[Any] = (), is_log: bool = False) -> dict[str, Any]:
    """An axis for a key with one value per row; choices are in `order`, then in order of appearance. `is_log` marks
    numbers that a search sampled logarithmically, whatever their spacing.

    `kind` is "number", "log" or "choice"; `ticks` are the distinct values in order, as text, and `at` is each row's
    position: the number itself, or the index of its tick.
    """
    texts = [short_value(value) for value in values]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = sorted({float(value) for value in values})
        kind = "log" if is_log and numbers[0] > 0 else scale(numbers)
        ticks = _texts_of(numbers)
        at = [float(value) if kind != "choice" else numbers.index(float(value)) for value in values]
        return {"key": key, "label": short_key(key), "kind": kind, "ticks": list(ticks.values()), "at": at,
                "tick_at": numbers if kind != "choice" else list(range(len(numbers)))}  # fmt: skip
    ticks_of = list(dict.fromkeys([*map(short_value, order), *texts]))
    return {"key": key, "label": short_key(key), "kind": "choice", "ticks": ticks_of,
            "at": [ticks_of.index(text) for text in texts], "tick_at": list(range(len(ticks_of)))}  # fmt: skip


def scale(numbers: Sequence[float]) -> str:
    """How distinct, sorted numbers are spaced: "number" (evenly), "log" (by factors), or "choice" for 0 and factors,
    which only fit an axis with equidistant positions."""
    positive = [number for number in numbers if number > 0]
    if not _is_geometric(positive):
        return "number"
    if len(positive) == len(numbers):
        return "log"
    return "choice" if min(numbers) == 0 and len(positive) > 1 else "number"


def _is_geometric(numbers: Sequence[float]) -> bool:
    if len(numbers) < 2:
        return False
    if len(numbers) == 2:
        return numbers[1] / numbers[0] >= _LOG_RATIO
    return _unevenness([math.log(number) for number in numbers]) < _unevenness(numbers)


def _unevenness(numbers: Sequence[float]) -> float:
    """Coefficient of variation of the steps between numbers."""
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    mean = sum(steps) / len(steps)
    return math.sqrt(sum((step - mean) ** 2 for step in steps) / len(steps)) / mean


def _texts_of(numbers: Sequence[float]) -> dict[float, str]:
    """The numbers as text with four digits, if they remain distinct."""
    found = {number: f"{number:.4g}" for number in numbers}
    return found if len(set(found.values())) == len(numbers) else {number: f"{number:g}" for number in numbers}
