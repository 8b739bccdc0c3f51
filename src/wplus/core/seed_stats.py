"""Statistics over several training runs of one configuration: the unit is the seed, images are resampled within it.

Intervals over the images of one run say nothing about the method that trained it. With fewer than `MIN_SEEDS` seeds
there is no interval and no test: the individual values are shown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

from wplus.core.paired import Paired, compared
from wplus.core.stats import NUM_RESAMPLES, Mean, percentile_interval
from wplus.errors import UserError

MIN_SEEDS = 5
_MAX_EXACT = 16  # seeds up to which all (at most 2^16) signs are enumerated; above, 2^16 are drawn
_MAX_HELD = 4_000_000  # resampled values in memory at a time

Array = np.ndarray


class Seeds:
    """Training runs, or runs with different noise, of one configuration: there are few."""

    name, fewest = "seeds", MIN_SEEDS
    interval = f"95 %, BCa bootstrap over seeds, {NUM_RESAMPLES} resamples; none below {MIN_SEEDS} seeds"
    test = f"sign flips of the differences seed by seed, two-sided; none below {MIN_SEEDS} seeds"

    def means(self, samples: Sequence[Array]) -> list[Mean]:
        """Means with BCa bootstrap intervals (Efron 1987); no interval below `MIN_SEEDS`."""
        bounds = _bca([sample for sample in samples if len(sample) >= MIN_SEEDS])
        return [Mean(float(sample.mean()), next(bounds) if len(sample) >= MIN_SEEDS else None) for sample in samples]

    def differences(self, samples: Sequence[Array], *, seed: int = 0) -> list[Paired]:
        """Comparisons by the sign-flip permutation test; no test below `MIN_SEEDS`."""
        return [compared(sample, mean, sign_flip_p if len(sample) >= MIN_SEEDS else None)
                for sample, mean in zip(samples, self.means(samples), strict=True)]  # fmt: skip


SEEDS = Seeds()


def _bca(samples: Sequence[Array]) -> Iterator[tuple[float, float]]:
    """Yield the intervals of the samples; samples of equal size are resampled together for speed."""
    found: list[tuple[float, float]] = [(float(sample[0]),) * 2 for sample in samples]  # for samples of equal values
    by_size: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        if np.ptp(sample) > 0:  # BCa divides by the spread
            by_size.setdefault(len(sample), []).append(index)
    for size, indices in by_size.items():
        bounds = bootstrap((np.stack([samples[index] for index in indices]),), np.mean, axis=-1, method="BCa",
                           n_resamples=NUM_RESAMPLES, batch=max(1, _MAX_HELD // (size * len(indices))),
                           rng=np.random.default_rng(0)).confidence_interval  # fmt: skip
        for index, low, high in zip(indices, bounds.low, bounds.high, strict=True):
            found[index] = (float(low), float(high))
    return iter(found)


def sign_flip_p(differences: Sequence[float] | Array) -> float:
    """Two-sided p of Fisher's permutation test: random signs give a mean as far from 0 as that of differences (N,).

    Exact up to 16 differences, with 2^16 draws above. The smallest p for 5 seeds is 2 / 2^5 = 0.06, for 6 it is 0.03.
    """
    d = np.asarray(differences, dtype=np.float64)
    if len(d) <= _MAX_EXACT:
        signs = 1.0 - 2 * ((np.arange(2 ** len(d))[:, None] >> np.arange(len(d))) & 1)
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(2**_MAX_EXACT, len(d)))
        signs[0] = 1  # the observed signs count as one of the draws
    reached = np.abs(signs @ d) >= np.abs(d.sum()) * (1 - 1e-12)
    return float(reached.mean())


@dataclass(frozen=True)
class ClusterMean:
    """A mean over the images of several seeds; `seed_sd` and `image_sd` are the two parts of its spread."""

    value: float
    interval: tuple[float, float] | None
    """95 % percentile bootstrap that draws seeds, then images; None below `MIN_SEEDS`."""
    seed_sd: float
    """Standard deviation of the seeds' true means, after subtracting the variance due to images."""
    image_sd: float
    """Standard deviation of images within a seed, pooled."""


def cluster_mean(groups: Sequence[Sequence[float]], *, same_images: bool = False) -> ClusterMean:
    """The mean of image values, a list (N_s,) for each seed; seeds have equal weight.

    same_images  every seed has the same images in the same order. Difficult images are then difficult for all seeds, so
                 one draw of images is used for all of them (the pigeonhole bootstrap, Owen 2007), and the seeds' means
                 only vary by what images do not share across seeds. Otherwise images are drawn independently within
                 each seed.
    """
    arrays = [np.asarray(group, dtype=np.float64) for group in groups]
    if same_images and len({len(group) for group in arrays}) > 1:
        raise UserError(f"The same images must be as many for every seed, got {[len(group) for group in arrays]}.")
    means = np.array([group.mean() for group in arrays])
    image_variance = _pooled_variance(arrays)
    own = _pooled_variance(list(np.stack(arrays) - np.mean(arrays, axis=0))) if same_images else image_variance
    if same_images and len(arrays) > 1:
        own *= len(arrays) / (len(arrays) - 1)  # corrects for subtracting the mean over seeds
    noise = float(np.mean([own / len(group) for group in arrays]))
    seed_variance = max(0.0, float(means.var(ddof=1)) - noise) if len(means) > 1 else 0.0
    interval = _cluster_interval(arrays, same_images=same_images) if len(arrays) >= MIN_SEEDS else None
    return ClusterMean(float(means.mean()), interval, seed_variance**0.5, image_variance**0.5)


def _pooled_variance(arrays: Sequence[Array]) -> float:
    within = [group.var(ddof=1) for group in arrays if len(group) > 1]
    return float(np.mean(within)) if within else 0.0


def _cluster_interval(arrays: Sequence[Array], *, same_images: bool) -> tuple[float, float]:
    rng, num = np.random.default_rng(0), len(arrays)
    seeds = rng.integers(num, size=(NUM_RESAMPLES, num))
    if same_images:
        images = rng.integers(len(arrays[0]), size=(NUM_RESAMPLES, len(arrays[0])))
        drawn_means = np.stack([group[images].mean(1) for group in arrays], axis=1)  # of every draw and seed
        means = np.take_along_axis(drawn_means, seeds, axis=1)
    else:
        means = np.empty((NUM_RESAMPLES, num))
        for seed, group in enumerate(arrays):
            drawn = seeds == seed
            means[drawn] = group[rng.integers(len(group), size=(drawn.sum(), len(group)))].mean(1)
    return percentile_interval(means.mean(1))
