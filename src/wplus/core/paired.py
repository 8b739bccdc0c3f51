"""Paired comparisons of methods on the same units: images, pairs of images, or seeds (`wplus.core.seed_stats`).

Differences are always method minus baseline. Whether higher is better depends on the column's direction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from wplus.core.stats import (
    MIN_ITEMS,
    NUM_RESAMPLES,
    Mean,
    benjamini_hochberg,
    bootstrap_mean,
    equivalence_p,
    holm,
    rank_biserial,
    signed_rank_p,
)
from wplus.errors import UserError

Rows = Mapping[str, Mapping[str, float]]
"""Unit (an item or a seed) -> column -> value."""


@dataclass(frozen=True)
class Paired:
    """Difference of a method from the baseline in one column, over the units (items or seeds) that both have."""

    num_items: int
    difference: float
    """Mean over the units."""
    interval: tuple[float, float] | None
    """95 % bootstrap interval of the mean; None where there are too few units for one."""
    higher: float
    """Share of the units where the method's value is higher; ties count half."""
    effect: float
    """Matched-pairs rank-biserial correlation (Kerby 2014), -1 to 1: 1 where the method is higher on every unit."""
    p: float | None
    """Two-sided p of Wilcoxon's signed-rank test over items, or of sign flips over seeds; None for too few units."""
    p_holm: float | None = None
    """p after Holm's correction over all comparisons made together: for confirmation."""
    q: float | None = None
    """p after Benjamini and Hochberg's correction over them: for screening."""
    equivalent_p: float | None = None
    """p of equivalence within the margin (two one-sided t tests); None without a margin."""

    @property
    def is_at_odds(self) -> bool:
        """Whether the interval and the test disagree, as happens with few units."""
        if self.interval is None or self.p is None:
            return False
        return (not self.interval[0] <= 0 <= self.interval[1]) != (self.p < 0.05)


class Unit(Protocol):
    """The unit of comparison: resampled for intervals and paired in tests."""

    name: str
    fewest: int
    """Minimum number of units for a test."""
    interval: str
    """Kind of the interval."""
    test: str

    def means(self, samples: Sequence[np.ndarray]) -> list[Mean]:
        """The mean of each of the samples (N_i,)."""
        ...

    def differences(self, samples: Sequence[np.ndarray], *, seed: int = 0) -> list[Paired]:
        """Compare each of the samples (N_i,) of finite differences, N_i >= 1; p values are not corrected yet."""
        ...


class Items:
    """Images, or pairs of them: many values from one network."""

    name, fewest = "images", MIN_ITEMS
    interval = f"95 %, percentile bootstrap over images, {NUM_RESAMPLES} resamples"
    test = "Wilcoxon's signed-rank, two-sided, on the same images"

    def means(self, samples: Sequence[np.ndarray]) -> list[Mean]:
        """Means with percentile bootstrap intervals."""
        return [bootstrap_mean(sample) for sample in samples]

    def differences(self, samples: Sequence[np.ndarray], *, seed: int = 0) -> list[Paired]:
        """Comparisons by Wilcoxon's signed-rank test."""
        return [
            compared(sample, bootstrap_mean(sample, seed=seed), signed_rank_p if len(sample) >= self.fewest else None)
            for sample in samples
        ]


ITEMS = Items()


def compared(differences: np.ndarray, mean: Mean, test: Callable[[np.ndarray], float] | None) -> Paired:
    """The comparison for differences (N,) with their `mean` and the p value of `test`."""
    return Paired(
        num_items=len(differences),
        difference=mean.value,
        interval=mean.interval,
        higher=float(((differences > 0) + 0.5 * (differences == 0)).mean()),
        effect=rank_biserial(differences),
        p=None if test is None else test(differences),
    )


def paired_tests(
    methods: Mapping[str, Rows], baseline: str | Mapping[str, str], *, columns: Sequence[str] | None = None,
    unit: Unit = ITEMS, margins: Mapping[str, float] | None = None, seed: int = 0,
) -> dict[str, dict[str, Paired]]:  # fmt: skip
    """Each method against the baseline: method -> column -> comparison.

    Columns are compared over the units where both have a value, and omitted if there are none. Corrections are over all
    methods and columns given, so fewer columns cost less power. UserError for an unknown baseline, and for values that
    are not finite.

    baseline  one method for all; or method -> its own baseline, which restricts the comparison to these methods
    columns   columns to compare, in order; None: all that the baseline has
    margins   column -> the largest negligible difference, for a test of equivalence
    """
    if isinstance(baseline, str):
        baseline = {method: baseline for method in methods if method != baseline} or {baseline: baseline}
    for name in baseline.values():
        if name not in methods:
            raise UserError(f"baseline must be one of {', '.join(methods)}, got '{name}'.")
    samples = _differences(methods, baseline, columns)
    found: dict[str, dict[str, Paired]] = {method: {} for method, other in baseline.items() if method != other}
    made = unit.differences(list(samples.values()), seed=seed)
    corrected = zip(holm([each.p for each in made]), benjamini_hochberg([each.p for each in made]), strict=True)
    for (method, column), each, (p_holm, q) in zip(samples, made, corrected, strict=True):
        margin, differences = (margins or {}).get(column), samples[method, column]
        is_enough = margin is not None and len(differences) >= unit.fewest
        equal = equivalence_p(differences, margin) if margin is not None and is_enough else None
        found[method][column] = replace(each, p_holm=p_holm, q=q, equivalent_p=equal)
    return found


def _differences(
    methods: Mapping[str, Rows], baselines: Mapping[str, str], columns: Sequence[str] | None
) -> dict[tuple[str, str], np.ndarray]:
    """(method, column) -> differences over the units that both have, (N,), N >= 1."""
    found = {}
    for method, other in baselines.items():
        rows, own = methods[method], methods[other]
        wanted = list(dict.fromkeys(name for row in own.values() for name in row)) if columns is None else columns
        for column in wanted if method != other else ():
            names = sorted(name for name in rows.keys() & own.keys() if column in rows[name] and column in own[name])
            if names:
                ours, theirs = (np.array([each[name][column] for name in names], float) for each in (rows, own))
                found[method, column] = ours - theirs
                if not np.isfinite(found[method, column]).all():
                    raise UserError("Values that are compared in pairs must be finite.")
    return found
