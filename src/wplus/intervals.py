"""How sure a mean is: bootstrap intervals over images."""

from __future__ import annotations

from collections.abc import Sequence
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
