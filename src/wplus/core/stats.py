"""Intervals of numbers (bootstrap, jackknife, Wilson's score), tests of differences, and corrections for many tests."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit
from scipy.stats import bootstrap, false_discovery_control, rankdata, wilcoxon

from wplus.errors import check_number

NUM_RESAMPLES = 2000
Z = 1.959963984540054  # half the width of a 95 % interval of a normal variable, in standard deviations
MIN_ITEMS = 6  # with 5 the smallest two-sided p is 2 / 2^5 = 0.06
_MAX_EXACT = 50  # items; above, the normal approximation is accurate to many digits
_MAX_HELD = 2_000_000  # values of resamples in memory at a time


@dataclass(frozen=True)
class Mean:
    """A mean over items with its 95 % bootstrap interval; None with fewer than two items."""

    value: float
    interval: tuple[float, float] | None


def bootstrap_mean(values: Sequence[float] | np.ndarray, *, seed: int = 0) -> Mean:
    """Mean of values (N,), N >= 1, with its interval."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < 2:
        return Mean(float(numbers.mean()), None)
    interval = bootstrap_interval(numbers, lambda rows: rows.mean(-1), seed=seed, num_resamples=NUM_RESAMPLES)
    return Mean(float(numbers.mean()), interval)


def bootstrap_interval(
    samples: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], *, seed: int, num_resamples: int = 1000
) -> tuple[float, float]:
    """95 % percentile bootstrap interval (Efron 1979) of `statistic`, which maps rows (R, N) to values (R,)."""
    found = bootstrap((samples,), lambda rows, axis: statistic(rows), n_resamples=num_resamples, vectorized=True,
                      batch=max(1, _MAX_HELD // len(samples)), method="percentile",
                      rng=np.random.default_rng(seed)).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def percentile_interval(draws: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of resampled values (R,)."""
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)


def kept_mean(distances: np.ndarray) -> np.ndarray:
    """Mean of the values from the 1st to the 99th percentile, over the last axis: (..., N) -> (...).

    The percentiles are actual values, the next lower and the next higher one, and both are kept.
    """
    low = np.percentile(distances, 1, axis=-1, method="lower", keepdims=True)
    high = np.percentile(distances, 99, axis=-1, method="higher", keepdims=True)
    kept = (distances >= low) & (distances <= high)
    return np.where(kept, distances, 0).sum(axis=-1) / kept.sum(axis=-1)


def jackknife_interval(
    value: float, *without_group: Sequence[float], lowest: float = -math.inf, highest: float = math.inf
) -> tuple[float, float]:
    """95 % interval of `value` from its values with one of G groups left out (delete-a-group jackknife).

    Standard error sqrt((G-1)/G sum (v_g - mean)^2), Student's t with G-1 degrees of freedom (Efron & Tibshirani 1993,
    chapter 11). Pass one list per independent sample: squared errors and degrees of freedom add up (Arvesen 1969,
    "Jackknifing U-statistics"). The ends are kept between `lowest` and `highest`.
    """
    squared = sum((len(values) - 1) * np.var(values) for values in without_group)
    reach = student_t(sum(len(values) - 1 for values in without_group)) * float(np.sqrt(squared))
    return max(value - reach, lowest), min(value + reach, highest)


def student_t(degrees: int) -> float:
    """Half the width of a 95 % interval in standard errors: the 97.5 % quantile of Student's t."""
    return float(stdtrit(degrees, 0.975))


def proportion_interval(proportion: float, num: int) -> tuple[float, float]:
    """95 % interval of a proportion of `num` independent images: Wilson's score interval (1927), valid at 0 and 1."""
    centre = (proportion + Z**2 / (2 * num)) / (1 + Z**2 / num)
    reach = Z / (1 + Z**2 / num) * np.sqrt(proportion * (1 - proportion) / num + Z**2 / (4 * num**2))
    # At 0 and 1 one end is exact, so remove rounding errors there.
    low, high = (0.0 if proportion == 0 else centre - reach), (1.0 if proportion == 1 else centre + reach)
    return float(low), float(high)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979) of p values: in the original order, at most 1, with None kept.

    The probability that any claim with a corrected p below 0.05 is false is at most 5 %.
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    reached = 0.0
    for rank, (p, index) in enumerate(tested):
        reached = max(reached, min(1.0, (len(tested) - rank) * p))
        corrected[index] = reached
    return corrected


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Corrected p values (1995): of the claims below 0.05, at most 5 % are false on average. None is kept."""
    tested = [index for index, p in enumerate(p_values) if p is not None]
    corrected: list[float | None] = [None] * len(p_values)
    values = false_discovery_control([p_values[index] for index in tested]) if tested else []
    for index, value in zip(tested, values, strict=True):
        corrected[index] = float(value)
    return corrected


def equivalence_p(differences: Sequence[float] | np.ndarray, margin: float) -> float:
    """p of equivalence, that the mean of differences (N,), N >= 2, lies within +-`margin`: the larger p of two
    one-sided t tests (TOST; Schuirmann 1987)."""
    check_number("margin", margin, lowest=0)
    d = np.asarray(differences, dtype=np.float64)
    error, inside = d.std(ddof=1) / len(d) ** 0.5, margin - abs(d.mean())  # the nearer bound decides
    if error == 0:
        return 0.0 if inside > 0 else 1.0
    return float(stdtr(len(d) - 1, -inside / error))


def signed_ranks(differences: Sequence[float] | np.ndarray) -> np.ndarray:
    """Signed ranks of the magnitudes of differences (N,); zeros are dropped, ties share their mean rank."""
    d = np.asarray(differences, dtype=np.float64)
    d = d[d != 0]
    return rankdata(np.abs(d)) * np.sign(d)


def signed_rank_p(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test (1945) of differences (N,); 1 where every difference is zero.

    Exact up to 50 differences, also with ties (unlike scipy's); above that by the normal approximation.
    """
    ranks = signed_ranks(differences)
    if not len(ranks):
        return 1.0
    if len(ranks) > _MAX_EXACT:
        return float(wilcoxon(ranks, method="asymptotic").pvalue)
    doubled = np.rint(2 * ranks).astype(int)  # ranks of ties may be multiples of 1/2
    chances = np.zeros(int(np.abs(doubled).sum()) + 1)  # probability of each sum of positive ranks
    chances[0] = 1
    for rank in np.abs(doubled):
        chances[rank:] += chances[:-rank].copy()  # with this rank, or without it
        chances /= 2
    lower = min(int(doubled[doubled > 0].sum()), -int(doubled[doubled < 0].sum()))
    return min(1.0, 2 * float(chances[: lower + 1].sum()))


def rank_biserial(differences: Sequence[float] | np.ndarray) -> float:
    """(ranks of the positive - ranks of the negative) / all ranks, of differences (N,); 0 where all are zero.

    The matched-pairs rank-biserial correlation: Kerby 2014, https://doi.org/10.2466/11.IT.3.1.
    """
    ranks = signed_ranks(differences)
    return float(ranks.sum() / np.abs(ranks).sum()) if len(ranks) else 0.0
