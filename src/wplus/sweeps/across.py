"""Statistics over several data sets or resolutions.

Fréchet distances on different data sets have no common scale, and their mean is dominated by the hardest one. The
probability of improvement over the baseline needs no common scale. The interquartile mean is computed relative to the
baseline on the same data set: of the ratio, or of the difference for dB, which are logarithms already, and for metrics
that are not all positive.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from wplus.core.set_stats import improvement_probability, interquartile_mean
from wplus.core.stats import Mean
from wplus.sweeps.table import SweepTable


@dataclass(frozen=True)
class Across:
    """A metric of a method relative to the baseline, over data sets."""

    num_sets: int
    is_ratio: bool
    """Whether `interquartile` is of value / baseline mean; else of value - baseline mean."""
    interquartile: Mean
    """The baseline's mean is taken as fixed: only `improvement` accounts for its spread."""
    improvement: Mean | None
    """Probability that a run of the method is better than one of the baseline; None for metrics without a direction."""


def across_sets(table: SweepTable, number: str) -> dict[str, Across]:
    """Method -> statistics over the data sets that it shares with the baseline; empty without a baseline."""
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
