"""Statistics over several trainings of one configuration: the seed is the unit, images are drawn within it.

Intervals of the images of one training say nothing about the method that trained it. With fewer than `MIN_SEEDS` seeds
there is no interval and no test: the points are shown.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr
from scipy.stats import bootstrap

from wplus.core.stats import Mean
from wplus.errors import UserError, check_number

MIN_SEEDS = 5
NUM_RESAMPLES = 2000
_MAX_EXACT = 16  # seeds; 2^16 signs are tried, above that as many are drawn

Array = np.ndarray


def seed_mean(values: Sequence[float]) -> Mean:
    """Mean over seeds with its 95 % BCa bootstrap interval (Efron 1987); None below `MIN_SEEDS`."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < MIN_SEEDS:
        return Mean(float(numbers.mean()), None)
    if np.ptp(numbers) == 0:  # BCa divides by the spread
        return Mean(float(numbers[0]), (float(numbers[0]),) * 2)
    found = bootstrap((numbers,), np.mean, n_resamples=NUM_RESAMPLES, method="BCa", rng=np.random.default_rng(0))
    return Mean(float(numbers.mean()), (float(found.confidence_interval.low), float(found.confidence_interval.high)))


@dataclass(frozen=True)
class SeedDifference:
    """A method minus the baseline, seed by seed."""

    num_seeds: int
    difference: float
    interval: tuple[float, float] | None
    """95 % BCa bootstrap over seeds; None below `MIN_SEEDS`."""
    p: float | None
    """Sign-flip permutation test, two-sided; None below `MIN_SEEDS`."""
    p_corrected: float | None = None
    """p after Holm's correction for all comparisons that were made together."""
    equivalent_p: float | None = None
    """Of the claim that the difference lies within the margin (two one-sided t tests); None without a margin."""


def seed_difference(
    values: Mapping[int, float], baseline: Mapping[int, float], *, margin: float | None = None
) -> SeedDifference | None:
    """Compare two methods over the seeds (seed -> value) that both have; None where there are none."""
    shared = sorted(values.keys() & baseline.keys())
    if not shared:
        return None
    differences = np.array([values[seed] - baseline[seed] for seed in shared])
    mean, is_enough = seed_mean(differences.tolist()), len(shared) >= MIN_SEEDS
    return SeedDifference(
        num_seeds=len(shared), difference=mean.value, interval=mean.interval,
        p=sign_flip_p(differences) if is_enough else None,
        equivalent_p=equivalence_p(differences, margin) if is_enough and margin is not None else None,
    )  # fmt: skip


def sign_flip_p(differences: Sequence[float] | Array) -> float:
    """How likely a coin's signs give a mean as far from 0 as that of differences (N,): Fisher's permutation test.

    Exact up to 16 differences, with 2^16 draws above.
    """
    d = np.asarray(differences, dtype=np.float64)
    if len(d) <= _MAX_EXACT:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(d))))
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(2**_MAX_EXACT, len(d)))
        signs[0] = 1  # what was seen is one of the draws
    reached = np.abs(signs @ d) >= np.abs(d.sum()) * (1 - 1e-12)
    return float(reached.mean())


def equivalence_p(differences: Sequence[float] | Array, margin: float) -> float:
    """p of the claim that the mean of differences (N,), N >= 2, lies within +-`margin`: the larger of two one-sided t
    tests (TOST; Schuirmann 1987)."""
    check_number("margin", margin, lowest=0)
    d = np.asarray(differences, dtype=np.float64)
    error, inside = d.std(ddof=1) / len(d) ** 0.5, margin - abs(d.mean())  # the nearer bound decides
    if error == 0:
        return 0.0 if inside > 0 else 1.0
    return float(stdtr(len(d) - 1, -inside / error))


@dataclass(frozen=True)
class ClusterMean:
    """A mean over the images of several seeds; `seed_sd` and `image_sd` are the two parts of its spread."""

    value: float
    interval: tuple[float, float] | None
    """95 % percentile bootstrap that draws seeds, then images within each; None below `MIN_SEEDS`."""
    seed_sd: float
    """Standard deviation of the seeds' true means: what is left of theirs without what images explain."""
    image_sd: float
    """Standard deviation of images within a seed, pooled."""


def cluster_mean(groups: Sequence[Sequence[float]]) -> ClusterMean:
    """Of values of images, a list (N_s,) for every seed; seeds count alike."""
    arrays = [np.asarray(group, dtype=np.float64) for group in groups]
    means = np.array([group.mean() for group in arrays])
    within = [group.var(ddof=1) for group in arrays if len(group) > 1]
    image_variance = float(np.mean(within)) if within else 0.0
    noise = float(np.mean([image_variance / len(group) for group in arrays]))
    seed_variance = max(0.0, float(means.var(ddof=1)) - noise) if len(means) > 1 else 0.0
    interval = _cluster_interval(arrays) if len(arrays) >= MIN_SEEDS else None
    return ClusterMean(float(means.mean()), interval, seed_variance**0.5, image_variance**0.5)


def _cluster_interval(arrays: Sequence[Array]) -> tuple[float, float]:
    rng, num = np.random.default_rng(0), len(arrays)
    seeds = rng.integers(num, size=(NUM_RESAMPLES, num))
    means = np.empty((NUM_RESAMPLES, num))
    for seed, group in enumerate(arrays):
        drawn = seeds == seed
        means[drawn] = group[rng.integers(len(group), size=(drawn.sum(), len(group)))].mean(1)
    means = means.mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def interquartile_mean(scores: Sequence[Sequence[float]]) -> Mean:
    """Mean of the middle half of all scores, a list of seeds for every data set, with a stratified bootstrap interval
    (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice")."""
    arrays = [np.asarray(each, dtype=np.float64) for each in scores]
    rng = np.random.default_rng(0)
    drawn = np.concatenate([each[rng.integers(len(each), size=(NUM_RESAMPLES, len(each)))] for each in arrays], axis=1)
    low, high = np.percentile(_middle(drawn), (2.5, 97.5))
    return Mean(float(_middle(np.concatenate(arrays)[None])[0]), (float(low), float(high)))


def _middle(rows: Array) -> Array:
    """Mean over the last axis (R, N) without the lowest and the highest quarter, rounded down: (R,)."""
    cut = rows.shape[-1] // 4
    return np.sort(rows, axis=-1)[:, cut : rows.shape[-1] - cut].mean(-1)


def improvement_probability(
    values: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]], *, higher_is_better: bool
) -> Mean:
    """How likely a run of the method is better than one of the baseline, mean over data sets; ties count half.

    Each is a list of seeds for every data set; the interval is a stratified bootstrap's. Agarwal et al. 2021.
    """
    if len(values) != len(baseline):
        raise UserError(f"Both methods must have the same data sets, got {len(values)} and {len(baseline)}.")
    rng, sign = np.random.default_rng(0), 1.0 if higher_is_better else -1.0
    pairs = [(sign * np.asarray(a, float), sign * np.asarray(b, float)) for a, b in zip(values, baseline, strict=True)]
    drawn = np.mean([_better(_drawn(a, rng), _drawn(b, rng)) for a, b in pairs], axis=0)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Mean(float(np.mean([_better(a[None], b[None])[0] for a, b in pairs])), (float(low), float(high)))


def _drawn(values: Array, rng: np.random.Generator) -> Array:
    return values[rng.integers(len(values), size=(NUM_RESAMPLES, len(values)))]


def _better(a: Array, b: Array) -> Array:
    """Share of the pairs of rows a (R, N) and b (R, M) where a is larger, a tie counts half: (R,)."""
    difference = a[:, :, None] - b[:, None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean((1, 2))


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Corrected p values: of the claims that stay below 0.05 at most 5 % are false on average. None stays None."""
    tested = sorted(((p, index) for index, p in enumerate(p_values) if p is not None), reverse=True)
    corrected: list[float | None] = [None] * len(p_values)
    reached = 1.0
    for position, (p, index) in enumerate(tested):
        reached = min(reached, p * len(tested) / (len(tested) - position))
        corrected[index] = reached
    return corrected
