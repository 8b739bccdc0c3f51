"""Methods compared on the same items (images, pairs of images): paired differences, their interval, test and size.

A difference is always a method minus the baseline. Whether higher is better, the reader of the column knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import rankdata, wilcoxon

from wplus.core.stats import bootstrap_mean
from wplus.errors import UserError

MIN_ITEMS = 6  # with 5 the smallest two-sided p is 2 / 2^5 = 0.06
_MAX_EXACT = 50  # items; above, the normal approximation is good to many digits
Rows = Mapping[str, Mapping[str, float]]
"""Item -> column -> value."""


@dataclass(frozen=True)
class Paired:
    """A method minus the baseline in one column, over the items that both have."""

    num_items: int
    difference: float
    """Mean over items."""
    interval: tuple[float, float] | None
    """95 % bootstrap interval of the mean, over items; None with one item."""
    higher: float
    """Share of the items where the method's value is the higher one; a tie counts half."""
    effect: float
    """Matched-pairs rank-biserial correlation (Kerby 2014), -1 to 1: 1 where the method is higher on every item."""
    p: float | None
    """Wilcoxon's signed-rank test, two-sided; None with fewer than 6 items, which no test can tell apart at 5 %."""
    p_holm: float | None = None
    """p after Holm's correction for all comparisons that were made together."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)


def paired(values: Sequence[float], baseline: Sequence[float], *, seed: int = 0) -> Paired:
    """Compare a method's values (N,) with the baseline's (N,) on the same items in the same order.

    UserError for none, for unequal numbers of them, and for values that are not finite.
    """
    first, second = (np.asarray(each, dtype=np.float64) for each in (values, baseline))
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise UserError(
            f"Values of shapes {first.shape} and {second.shape} cannot be compared in pairs: both must be (N,), N >= 1."
        )
    difference = first - second
    if not np.isfinite(difference).all():
        raise UserError("Values that are not finite cannot be compared in pairs.")
    mean = bootstrap_mean(difference, seed=seed)
    return Paired(
        num_items=len(difference),
        difference=mean.value,
        interval=mean.interval,
        higher=float(((difference > 0) + 0.5 * (difference == 0)).mean()),
        effect=rank_biserial(difference),
        p=signed_rank_p(difference) if len(difference) >= MIN_ITEMS else None,
    )


def paired_tests(
    methods: Mapping[str, Rows], baseline: str, *, columns: Sequence[str] | None = None, seed: int = 0
) -> dict[str, dict[str, Paired]]:
    """Each method against the method called `baseline`: method -> column -> comparison.

    A column is compared over the items where both have a value, and is left out where there is none. `columns` says
    which ones and in which order; None: all that the baseline has. Holm's correction is over all methods and columns
    here: fewer columns, fewer comparisons to pay for. UserError when there is no such baseline.
    """
    if baseline not in methods:
        raise UserError(f"baseline={baseline} is not one of the methods: choose one of {', '.join(methods)}.")
    own = methods[baseline]
    wanted = list(dict.fromkeys(column for row in own.values() for column in row)) if columns is None else columns
    found: dict[str, dict[str, Paired]] = {}
    for method, rows in methods.items():
        if method == baseline:
            continue
        pairs = {column: _common(rows, own, column) for column in wanted}
        found[method] = {column: paired(*pair, seed=seed) for column, pair in pairs.items() if pair[0]}
    return _corrected(found)


def _common(rows: Rows, baseline: Rows, column: str) -> tuple[list[float], list[float]]:
    names = sorted(name for name in rows.keys() & baseline.keys() if column in rows[name] and column in baseline[name])
    return [rows[name][column] for name in names], [baseline[name][column] for name in names]


def _corrected(found: Mapping[str, Mapping[str, Paired]]) -> dict[str, dict[str, Paired]]:
    corrected = iter(holm([each.p for columns in found.values() for each in columns.values()]))
    return {
        method: {column: replace(each, p_holm=next(corrected)) for column, each in columns.items()}
        for method, columns in found.items()
    }


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979) over all p values: in their old places, at most 1, None where there is none.

    What stays below 0.05 is claimed with a chance of at most 5 % that any of these claims is false.
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    reached = 0.0
    for rank, (p, index) in enumerate(tested):
        reached = max(reached, min(1.0, (len(tested) - rank) * p))
        corrected[index] = reached
    return corrected


def signed_rank_p(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test (1945) of differences (N,).

    How likely signs drawn by a coin are at least as uneven as these. Zeros are left out, as Wilcoxon did; equal
    sizes share their mean rank. Up to 50 differences the p is exact, ties included; with more it is that of the normal
    approximation. 1 where every difference is zero.
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[d != 0]
    if not len(d):
        return 1.0
    if len(d) > _MAX_EXACT:
        return float(wilcoxon(d, method="asymptotic").pvalue)
    doubled = np.rint(2 * rankdata(np.abs(d))).astype(int)  # ranks that ties share may be halves
    chances = _rank_sum_chances(doubled)
    lower = min(int(doubled[d > 0].sum()), int(doubled[d < 0].sum()))
    return min(1.0, 2 * float(chances[: lower + 1].sum()))


def _rank_sum_chances(ranks: np.ndarray) -> np.ndarray:
    """Chance of every sum 0, 1, ... of those ranks that a coin makes positive: (sum of ranks + 1,)."""
    chances = np.zeros(int(ranks.sum()) + 1)
    chances[0] = 1
    for rank in ranks:
        chances[rank:] += chances[:-rank].copy()  # with this rank, or without it
        chances /= 2
    return chances


def rank_biserial(differences: Sequence[float] | np.ndarray) -> float:
    """(ranks of the positive - ranks of the negative) / all ranks, of differences (N,); 0 where all are zero.

    The matched-pairs rank-biserial correlation: Kerby 2014, https://doi.org/10.2466/11.IT.3.1.
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[d != 0]
    if not len(d):
        return 0.0
    ranks = rankdata(np.abs(d))
    return float((ranks * np.sign(d)).sum() / ranks.sum())
