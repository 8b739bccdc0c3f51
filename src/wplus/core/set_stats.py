"""Statistics over several data sets (or resolutions) with a few seeds each, without averaging over different scales.

Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice" (2108.13264). Intervals are
95 % stratified bootstraps: seeds are drawn within every data set.
"""

from collections.abc import Sequence

import numpy as np

from wplus.core.stats import NUM_RESAMPLES, Mean, percentile_interval
from wplus.errors import UserError

Array = np.ndarray


def interquartile_mean(scores: Sequence[Sequence[float]]) -> Mean:
    """Mean of the middle half of all scores, a list of seeds for each data set, which must share a common scale.

    The interval is None if a data set has a single seed, which cannot be resampled.
    """
    arrays = [np.asarray(each, dtype=np.float64) for each in scores]
    rng = np.random.default_rng(0)
    drawn = np.concatenate([each[rng.integers(len(each), size=(NUM_RESAMPLES, len(each)))] for each in arrays], axis=1)
    return Mean(float(_middle(np.concatenate(arrays)[None])[0]), _bounds(_middle(drawn), arrays))


def _middle(rows: Array) -> Array:
    """Mean (R,) over the last axis (R, N) without the lowest and highest quarter, rounded down."""
    cut = rows.shape[-1] // 4
    return np.sort(rows, axis=-1)[:, cut : rows.shape[-1] - cut].mean(-1)


def improvement_probability(
    values: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]], *, higher_is_better: bool
) -> Mean:
    """Probability that a run of the method is better than one of the baseline, mean over data sets; ties count half.

    Both are a list of seeds for each data set. Only ranks within a data set matter, so no common scale is needed.
    The interval is None if a method has a single seed on a data set.
    """
    if len(values) != len(baseline):
        raise UserError(f"Both methods must have the same data sets, got {len(values)} and {len(baseline)}.")
    rng, sign = np.random.default_rng(0), 1.0 if higher_is_better else -1.0
    pairs = [(sign * np.asarray(a, float), sign * np.asarray(b, float)) for a, b in zip(values, baseline, strict=True)]
    drawn = np.mean([_better(_drawn(a, rng), _drawn(b, rng)) for a, b in pairs], axis=0)
    value = float(np.mean([_better(a[None], b[None])[0] for a, b in pairs]))
    return Mean(value, _bounds(drawn, [side for pair in pairs for side in pair]))


def _bounds(drawn: Array, arrays: Sequence[Array]) -> tuple[float, float] | None:
    return None if min(map(len, arrays)) < 2 else percentile_interval(drawn)


def _drawn(values: Array, rng: np.random.Generator) -> Array:
    return values[rng.integers(len(values), size=(NUM_RESAMPLES, len(values)))]


def _better(a: Array, b: Array) -> Array:
    """Share (R,) of pairs from rows a (R, N) and b (R, M) where a is larger; ties count half."""
    difference = a[:, :, None] - b[:, None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean((1, 2))
