"""Several data sets or resolutions: what may be said of all of them together, and what may not.

Fréchet distances of two data sets have no common scale, and a mean of them is that of the harder one. How often a
method is better than the baseline needs none (the probability of improvement). The interquartile mean is taken of what
a run changes against the baseline of its own data set: of the ratio of the two, and of the difference for dB, which are
logarithms already, and for numbers that are not all positive.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from wplus.core.set_stats import improvement_probability, interquartile_mean
from wplus.core.stats import Mean
from wplus.sweeps.table import SweepTable


@dataclass(frozen=True)
class Across:
    """A number of a method against the baseline, over data sets."""

    num_sets: int
    is_ratio: bool
    """Whether `interquartile` is of value / mean of the baseline; else of value - mean of the baseline."""
    interquartile: Mean
    """The baseline's own mean is taken as it is: its own spread is in `improvement` alone."""
    improvement: Mean | None
    """How likely a run of the method is better than one of the baseline; None for a number without a direction."""


def across_sets(table: SweepTable, number: str) -> dict[str, Across]:
    """Method -> what is found over the data sets that it shares with the baseline; empty without a baseline."""
    baselines = table.comparison.baseline
    if not isinstance(baselines, Mapping):
        return {}
    found: dict[str, list[tuple[list[float], list[float]]]] = {}
    for group, other in baselines.items():
        own, base = (list(table.comparison.points(each, number).values()) for each in (group, other))
        if own and base:
            found.setdefault((table.methods or {})[group], []).append((own, base))
    return {method: _across(table, number, pairs) for method, pairs in found.items()}


def _across(table: SweepTable, number: str, pairs: list[tuple[list[float], list[float]]]) -> Across:
    info = table.info.get(number)
    everything = [value for pair in pairs for side in pair for value in side]
    is_ratio = min(everything) > 0 and (info is None or info.unit != "dB")
    means = [sum(base) / len(base) for _, base in pairs]
    scores = [[value / mean if is_ratio else value - mean for value in own]
              for (own, _), mean in zip(pairs, means, strict=True)]  # fmt: skip
    improvement = None
    if info is not None and info.direction != "neither":
        own, base = zip(*pairs, strict=True)
        improvement = improvement_probability(own, base, higher_is_better=info.direction == "higher")
    return Across(len(pairs), is_ratio, interquartile_mean(scores), improvement)
