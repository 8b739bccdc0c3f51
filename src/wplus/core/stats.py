"""How sure a mean is: bootstrap intervals over images, and the mean that leaves the extremes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Mean:
    """A mean over images with its 95 % bootstrap interval; None with fewer than two images."""

    value: float
    interval: tuple[float, float] | None


def bootstrap_mean(values: Sequence[float], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Mean:
    """Mean of values and the 2.5 and 97.5 percentiles of the means of resamples drawn with replacement."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < 2:
        return Mean(float(numbers.mean()), None)
    rng = np.random.default_rng(seed)
    means = [numbers[rng.integers(len(numbers), size=len(numbers))].mean() for _ in range(num_resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Mean(float(numbers.mean()), (float(low), float(high)))


def bootstrap_interval(
    samples: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], *, seed: int, num_resamples: int = 1000
) -> tuple[float, float]:
    """95 % percentile bootstrap interval (Efron 1979) of `statistic`, which maps rows (R, N) to values (R,)."""
    rng = np.random.default_rng(seed)
    rows = max(1, 2_000_000 // len(samples))  # resamples held at a time
    values = []
    for start in range(0, num_resamples, rows):
        picks = rng.integers(len(samples), size=(min(rows, num_resamples - start), len(samples)))
        values.append(statistic(samples[picks]))
    low, high = np.percentile(np.concatenate(values), [2.5, 97.5])
    return float(low), float(high)


def kept_mean(distances: np.ndarray) -> np.ndarray:
    """Mean of the values from the 1st to the 99th percentile, over the last axis: (..., N) -> (...).

    The percentiles are values that occur, the next lower and the next higher one, and both are kept.
    """
    low = np.percentile(distances, 1, axis=-1, method="lower", keepdims=True)
    high = np.percentile(distances, 99, axis=-1, method="higher", keepdims=True)
    kept = (distances >= low) & (distances <= high)
    return np.where(kept, distances, 0).sum(axis=-1) / kept.sum(axis=-1)
