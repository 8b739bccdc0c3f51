"""Whether methods differ on the same units: images or pairs of images, or seeds (`wplus.core.seed_stats`).

A difference is always a method minus the baseline. Whether higher is better, the column's direction says.
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
"""Unit, an item or a seed -> column -> value."""


@dataclass(frozen=True)
class Paired:
    """A method minus the baseline in one column, over the units (items or seeds) that both have."""

    num_items: int
    difference: float
    """Mean over the units."""
    interval: tuple[float, float] | None
    """95 % bootstrap interval of the mean; None where there are too few units for one."""
    higher: float
    """Share of the units where the method's value is the higher one; a tie counts half."""
    effect: float
    """Matched-pairs rank-biserial correlation (Kerby 2014), -1 to 1: 1 where the method is higher on every unit."""
    p: float | None
    """Two-sided, of Wilcoxon's signed-rank test over items, of sign flips over seeds; None with too few for a test."""
    p_holm: float | None = None
    """p after Holm's correction for all comparisons that were made together: to confirm."""
    q: float | None = None
    """p after Benjamini's and Hochberg's correction for them: to screen."""
    equivalent_p: float | None = None
    """Of the claim that the difference lies within the margin (two one-sided t tests); None without a margin."""

    @property
    def is_at_odds(self) -> bool:
        """Whether the interval and the test say different things, as they do with too few units for either."""
        if self.interval is None or self.p is None:
            return False
        return (not self.interval[0] <= 0 <= self.interval[1]) != (self.p < 0.05)


class Unit(Protocol):
    """What methods are compared over: what an interval draws, and what a test pairs."""

    name: str
    fewest: int
    """Of fewer there is no test."""
    interval: str
    """Of what kind it is."""
    test: str

    def means(self, samples: Sequence[np.ndarray]) -> list[Mean]:
        """Of each of the samples (N_i,)."""
        ...

    def differences(self, samples: Sequence[np.ndarray], *, seed: int = 0) -> list[Paired]:
        """Of each of the samples (N_i,) of differences, finite, N_i >= 1; nothing is corrected yet."""
        ...


class Items:
    """Images, or pairs of them: their number is large, their values come from one network."""

    name, fewest = "images", MIN_ITEMS
    interval = f"95 %, percentile bootstrap over images, {NUM_RESAMPLES} resamples"
    test = "Wilcoxon's signed-rank, two-sided, on the same images"

    def means(self, samples: Sequence[np.ndarray]) -> list[Mean]:
        """With a percentile bootstrap interval."""
        return [bootstrap_mean(sample) for sample in samples]

    def differences(self, samples: Sequence[np.ndarray], *, seed: int = 0) -> list[Paired]:
        """With Wilcoxon's signed-rank test."""
        return [
            compared(sample, bootstrap_mean(sample, seed=seed), signed_rank_p if len(sample) >= self.fewest else None)
            for sample in samples
        ]


ITEMS = Items()


def compared(differences: np.ndarray, mean: Mean, test: Callable[[np.ndarray], float] | None) -> Paired:
    """What `mean` and `test` say of differences (N,)."""
    return Paired(
        num_items=len(differences),
        difference=mean.value,
        interval=mean.interval,
        higher=float(((differences > 0) + 0.5 * (differences == 0)).mean()),
        effect=rank_biserial(differences),
        p=None if test is None else test(differences),
    )


def paired(values: Sequence[float], baseline: Sequence[float], *, seed: int = 0) -> Paired:
    """Compare a method's values (N,) with the baseline's (N,) on the same items in the same order.

    UserError for none, for unequal numbers of them, and for values that are not finite.
    """
    return ITEMS.differences([_difference(values, baseline)], seed=seed)[0]


def _difference(values: Sequence[float], baseline: Sequence[float]) -> np.ndarray:
    first, second = (np.asarray(each, dtype=np.float64) for each in (values, baseline))
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        sizes = f"{first.shape} and {second.shape}"
        raise UserError(f"Values that are compared in pairs must both be (N,) with N >= 1, got {sizes}.")
    difference = first - second
    if not np.isfinite(difference).all():
        raise UserError("Values that are compared in pairs must be finite.")
    return difference


def paired_tests(
    methods: Mapping[str, Rows], baseline: str | Mapping[str, str], *, columns: Sequence[str] | None = None,
    unit: Unit = ITEMS, margins: Mapping[str, float] | None = None, seed: int = 0,
) -> dict[str, dict[str, Paired]]:  # fmt: skip
    """Each method against the baseline: method -> column -> comparison.

    A column is compared over the units where both have a value, and is left out where there is none. The corrections
    are over all methods and columns here: fewer columns, fewer comparisons to pay for. UserError for no such baseline.

    baseline  one method for all; or method -> the one that it is compared with, and no others are
    columns   which ones, in which order; None: all that the baseline has
    margins   column -> the largest difference that means nothing: that it is no larger is tested, too
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
                sides = ([each[name][column] for name in names] for each in (rows, own))
                found[method, column] = _difference(*sides)
    return found
