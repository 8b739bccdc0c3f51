"""Do the pictures along paths look like real ones? Distances of sets of frames in bins of t, with pairs as units.

Frames of one walk are not independent, so every interval here resamples or leaves out whole pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wplus.core.progress import silent
from wplus.core.stats import Mean, jackknife_interval
from wplus.errors import UserError
from wplus.evaluation.feature_pass import Progress
from wplus.evaluation.frechet import FeatureStatistics
from wplus.evaluation.pairwise import BLOCK, KernelSums, NeighbourSquares, PairPass

BINS = ((0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9))
NUM_RESAMPLES = 1000
_GROUPS = 10  # of the jackknife
_NEIGHBOURS = 3  # k of precision, as published


def bin_name(low: float, high: float) -> str:
    """As in names of numbers: `10_30` is t from 0.1 to 0.3."""
    return f"{round(100 * low)}_{round(100 * high)}"


def shown_frames(t: Tensor, *, frames_per_bin: int) -> dict[str, Tensor]:
    """Which of the frames at positions t (T,) are looked at: `ends`, `middle`, and some of each bin, evenly spaced.

    Bins are open, so that they are mirror images of each other; half way (one frame, or two where T is even) is
    `middle`.
    """
    away = (t - 0.5).abs()
    found = {"ends": torch.tensor([0, len(t) - 1]), "middle": (away <= away.min() + 1e-9).nonzero()[:, 0]}
    for low, high in BINS:
        inside = ((t > low + 1e-9) & (t < high - 1e-9)).nonzero()[:, 0]
        found[bin_name(low, high)] = inside[_picks(len(inside), frames_per_bin, late=low >= 0.5)]
    return found


def _picks(num: int, wanted: int, *, late: bool) -> Tensor:
    """Up to `wanted` of 0 .. num-1, evenly spaced; of one, the middle: in the late bins the mirror image of the early.

    Of three and more in an even number, the middle one lies on the same side in all bins.
    """
    if wanted == 1:
        return torch.tensor([num // 2 if late else (num - 1) // 2])
    return torch.linspace(0, num - 1, min(wanted, num)).round().long()


# Kernel distance


def check_num_real(num: int) -> None:
    """UserError where there are too few real images to compare frames with."""
    if num <= _NEIGHBOURS:
        raise UserError(f"Frames cannot be compared with {num} real images: at least {_NEIGHBOURS + 1} are needed.")


class RealFeatures:
    """One side of the distances, prepared once: real features (R, dim). No matrix of all their pairs is held."""

    def __init__(self, rows: Tensor, *, device: torch.device | str = "cpu", progress: Progress = silent) -> None:
        self.rows = rows.double()
        self.statistics = FeatureStatistics.of(rows)
        pairs, num = PairPass(lambda: rows, device=device, progress=progress), len(rows)
        everything = torch.ones(1, num, dtype=torch.float64)
        similarity = pairs.ask(KernelSums("all once", everything, everything))
        radii = pairs.ask(NeighbourSquares(_NEIGHBOURS))
        self.self_similarity = float(similarity.value.sums) / (num * (num - 1))
        self.squared_radii = radii.value.squares

    def holds(self, features: Tensor) -> Tensor:
        """Which of the features (N, dim) lie in the ball of a real one to its third neighbour: (N,) bool.

        That share is the precision of Kynkäänniemi et al. 2019 (arXiv:1904.06991).
        """
        centre = self.rows.mean(dim=0)  # what is common to all would cost digits
        y = self.rows - centre
        lengths = y.square().sum(dim=1)

        def inside(x: Tensor) -> Tensor:
            squares = x.square().sum(dim=1, keepdim=True) + lengths - 2 * x @ y.T
            return (squares <= self.squared_radii).any(dim=1)

        return torch.cat([inside(part.double() - centre) for part in features.split(BLOCK)])

    def similarity(self, features: Tensor) -> Tensor:
        """Mean kernel of each of the features (N, dim) with all real ones: (N,) float64."""
        return torch.cat([_kernel(part.double(), self.rows).mean(dim=1) for part in features.split(BLOCK)])


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x.y / dim + 1)^3, the kernel of KID (Binkowski et al. 2018, arXiv:1801.01401): (N, dim), (M, dim) -> (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


class PairKernel:
    """Squared kernel distance between real images and the frames of P pairs, for any weights of the pairs.

    Binkowski's unbiased estimator compares all frames with each other but themselves. Frames of one pair are as good as
    themselves, so here a pair is compared with the other pairs only: unbiased for what a new pair would show.
    """

    def __init__(self, features: Tensor, real: RealFeatures) -> None:
        """`features` (P, F, dim): F frames of each pair."""
        num, frames = features.shape[:2]
        flat = features.double().flatten(0, 1)
        blocks = _kernel(flat, flat).view(num, frames, num, frames).mean(dim=(1, 3))
        self.between = (blocks - blocks.diagonal().diag()).numpy()
        self.to_real = real.similarity(flat).view(num, frames).mean(dim=1).numpy()
        self.real = real.self_similarity

    def distance(self, weights: np.ndarray) -> np.ndarray:
        """(S, P) how often each pair counts, rows of one weighting -> (S,); a pair drawn twice is not met by itself."""
        within = np.einsum("sp,pq,sq->s", weights, self.between, weights, optimize=True)
        num = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
        return within / num + self.real - 2 * (weights @ self.to_real) / weights.sum(axis=1)


def resamples(num_pairs: int, *, seed: int, num: int = NUM_RESAMPLES) -> np.ndarray:
    """(num, P): how often each pair is drawn in each bootstrap resample of the pairs; the same for every method.

    Of very few pairs a resample may hold one alone, which has no other to be compared with; such ones are left out, so
    that there may be fewer than `num`.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(num_pairs, np.full(num_pairs, 1 / num_pairs), size=num)
    return drawn[(drawn > 0).sum(axis=1) > 1].astype(np.float64)


# Fréchet distance


class PairFrechet:
    """Fréchet distance between real images and the frames of P pairs, any pairs left out, at the cost of few frames.

    tr sqrt(S1 S2) needs the eigenvalues of X S1 X^T only, X (n, dim) being the centred frames, because those of
    S1 X^T X are the same: n x n instead of dim x dim where frames are few.
    """

    def __init__(self, features: Tensor, real: FeatureStatistics) -> None:
        """`features` (P, F, dim)."""
        self.frames = features.shape[1]
        self.rows = features.double().flatten(0, 1)
        self.real_mean, covariance = real.mean, real.covariance
        self.real_trace = covariance.trace()
        self.inner = self.rows @ covariance @ self.rows.T

    def distance(self, pairs: Tensor) -> float:
        """Of the pairs with these numbers (Q,)."""
        rows = (pairs[:, None] * self.frames + torch.arange(self.frames)).flatten()
        x, inner = self.rows[rows], self.inner[rows][:, rows]
        mean, num = x.mean(dim=0), len(rows)
        trace = (x - mean).square().sum() / (num - 1)
        centred = inner - inner.mean(dim=0) - inner.mean(dim=1, keepdim=True) + inner.mean()
        values = torch.linalg.eigvalsh((centred + centred.T) / (2 * (num - 1)))
        root = values[-min(num - 1, x.shape[1]) :].clamp_min(0).sqrt().sum()  # all others are 0 but for rounding
        return max(float((self.real_mean - mean).square().sum() + self.real_trace + trace - 2 * root), 0.0)

    def with_interval(self) -> Mean:
        """Of all pairs, with a delete-a-group jackknife over pairs. A bootstrap would be biased: what it draws twice
        adds nothing to the rank of the covariance, and fewer different frames mean a larger distance."""
        num = len(self.rows) // self.frames
        everything = torch.arange(num)
        value = self.distance(everything)
        if num < 2 * _GROUPS:
            return Mean(value, None)
        without = [self.distance(everything[everything % _GROUPS != group]) for group in range(_GROUPS)]
        return Mean(value, jackknife_interval(value, without))


# All of one method


@dataclass(frozen=True)
class Realism:
    """Set-level numbers of one method, and the resampled kernel distances, for differences between methods."""

    values: dict[str, Mean]
    draws: dict[str, np.ndarray]


def realism(frames: Mapping[str, Tensor], real: RealFeatures, *, weights: np.ndarray, extractor: str) -> Realism:
    """Numbers of one method from the features of its frames by place: `shown_frames` name -> (P, F, dim).

    - `kd_<extractor>_<bin>`: unbiased squared kernel distance (KID's kernel) of the frames in a bin from real images,
      also of `ends` and `middle`. Bootstrap over pairs (rows of `weights`).
    - `kd_<extractor>_mid_dip`: that of the middle minus that of the ends: what the way costs in realism, whatever the
      inverter cost already. Differences of the same resamples.
    - `precision_<extractor>_middle`, `..._ends`: share of the frames that lie in the manifold of the real images.
      Bootstrap over pairs.
    - `fd_<extractor>_<bin>`: Fréchet distance. Biased upwards by the small number of frames, alike for all methods.
    """
    everything = np.ones((1, weights.shape[1]))
    kernels = {place: PairKernel(features, real) for place, features in frames.items()}
    points = {place: float(kernel.distance(everything)[0]) for place, kernel in kernels.items()}
    draws = {f"kd_{extractor}_{place}": kernel.distance(weights) for place, kernel in kernels.items()}
    values = {f"kd_{extractor}_{place}": value for place, value in points.items()}
    dip, ends, middle = (f"kd_{extractor}_{name}" for name in ("mid_dip", "ends", "middle"))
    values[dip], draws[dip] = values[middle] - values[ends], draws[middle] - draws[ends]
    for place in ("middle", "ends"):
        name, num = f"precision_{extractor}_{place}", len(frames[place])
        inside = real.holds(frames[place].flatten(0, 1)).view(num, -1).double().mean(dim=1).numpy()
        values[name], draws[name] = float(inside.mean()), weights @ inside / num
    means = {name: Mean(value, interval(draws[name])) for name, value in values.items()}
    for low, high in BINS:
        place = bin_name(low, high)
        means[f"fd_{extractor}_{place}"] = PairFrechet(frames[place], real.statistics).with_interval()
    return Realism(means, draws)


def interval(draws: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of resampled values."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
