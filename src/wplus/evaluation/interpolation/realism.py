"""Realism of images along paths: distances of sets of frames from real images, in bins of t, with pairs as units.

Frames of one trajectory are not independent, so every interval here resamples or leaves out whole pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wplus.core.progress import silent
from wplus.core.stats import Mean, jackknife_interval, percentile_interval
from wplus.evaluation.feature_pass import Progress
from wplus.evaluation.frechet import FeatureStatistics
from wplus.evaluation.pairwise import BLOCK, InBalls, KernelSums, NeighbourSquares, PairPass
from wplus.interpolation.path import middle_of
from wplus.interpolation.trajectory import PathNumber

PLACES = {"ends": "at both ends", "middle": "halfway"}  # and the bins
BINS = ((0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9))
NUM_RESAMPLES = 1000
_GROUPS = 10  # of the jackknife
NUM_NEIGHBOURS = 3  # k of precision, as published; needs more real images than this


def bin_name(low: float, high: float) -> str:
    """Format a bin for names of numbers: `10_30` is t from 0.1 to 0.3."""
    return f"{round(100 * low)}_{round(100 * high)}"


def shown_frames(t: Tensor, *, frames_per_bin: int) -> dict[str, Tensor]:
    """Select frames from positions t (T,): `ends`, `middle`, and some of each bin, evenly spaced.

    Bins are open intervals, so that they mirror each other; `middle` is one frame, or two if T is even. A single frame
    per bin is its middle one; if there are two, late bins take the mirror image of the early bins' choice.
    """
    found = {"ends": torch.tensor([0, len(t) - 1]), "middle": middle_of(t)}
    for low, high in BINS:
        inside = ((t > low + 1e-9) & (t < high - 1e-9)).nonzero()[:, 0]
        num = len(inside)
        picks = torch.linspace(0, num - 1, min(frames_per_bin, num)).round().long()
        one = torch.tensor([num // 2 if low >= 0.5 else (num - 1) // 2])
        found[bin_name(low, high)] = inside[one if frames_per_bin == 1 else picks]
    return found


class RealFeatures:
    """Real features (R, dim) with precomputed statistics; the matrix of all their pairs is never stored."""

    def __init__(self, rows: Tensor, *, device: torch.device | str = "cpu", progress: Progress = silent) -> None:
        self.rows, self.statistics = rows.double(), FeatureStatistics.of(rows)
        pairs, num = PairPass(lambda: rows, device=device, progress=progress), len(rows)
        everything = torch.ones(1, num, dtype=torch.float64)
        similarity = pairs.ask(KernelSums("all once", everything, everything))
        self._radii, self._device = pairs.ask(NeighbourSquares(NUM_NEIGHBOURS)), device
        self.self_similarity = float(similarity.value.sums) / (num * (num - 1))

    def holds(self, features: Tensor) -> Tensor:
        """Whether features (N, dim) lie within the distance to the third neighbour of any real one: (N,) bool.

        The share that does is the precision of Kynkäänniemi et al. 2019 (arXiv:1904.06991).
        """
        pairs = PairPass(lambda: self.rows, lambda: features, device=self._device)
        return pairs.ask(InBalls(self._radii, around="rows", is_closed=True)).value.counts > 0

    def similarity(self, features: Tensor) -> Tensor:
        """Mean kernel value of each of the features (N, dim) with all real ones: (N,) float64."""
        return torch.cat([_kernel(part.double(), self.rows).mean(dim=1) for part in features.split(BLOCK)])


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x.y / dim + 1)^3, the kernel of KID (Binkowski et al. 2018, arXiv:1801.01401): (N, dim), (M, dim) -> (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


class PairKernel:
    """Squared kernel distance between real images and the frames of P pairs, for arbitrary weights of the pairs.

    This is Binkowski's unbiased estimator, except that frames of the same pair, which are dependent, are not compared
    with each other: only with those of other pairs, which is unbiased with respect to a new pair.
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
        """Weights (S, P) of the pairs -> distances (S,); a pair drawn twice is not compared with itself."""
        within = np.einsum("sp,pq,sq->s", weights, self.between, weights, optimize=True)
        num = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
        return within / num + self.real - 2 * (weights @ self.to_real) / weights.sum(axis=1)


def resamples(num_pairs: int, *, seed: int, num: int = NUM_RESAMPLES) -> np.ndarray:
    """Counts (num, P) of each pair in each bootstrap resample, the same for every method; resamples consisting of a
    single pair, which has no other to be compared with, are dropped."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(num_pairs, np.full(num_pairs, 1 / num_pairs), size=num)
    return drawn[(drawn > 0).sum(axis=1) > 1].astype(np.float64)


class PairFrechet:
    """Fréchet distance between real images and the frames of any subset of P pairs, cheap if there are few frames.

    tr sqrt(S1 S2) only needs the eigenvalues of X S1 X^T, where X (n, dim) are the centred frames: up to zeros, they
    equal those of S1 X^T X.
    """

    def __init__(self, features: Tensor, real: FeatureStatistics) -> None:
        """`features` (P, F, dim)."""
        self.frames = features.shape[1]
        self.rows = features.double().flatten(0, 1)
        self.real_mean, covariance = real.mean, real.covariance
        self.real_trace = covariance.trace()
        self.inner = self.rows @ covariance @ self.rows.T

    def distance(self, pairs: Tensor) -> float:
        """Distance for the pairs with these indices (Q,)."""
        rows = (pairs[:, None] * self.frames + torch.arange(self.frames)).flatten()
        x, inner = self.rows[rows], self.inner[rows][:, rows]
        mean, num = x.mean(dim=0), len(rows)
        trace = (x - mean).square().sum() / (num - 1)
        centred = inner - inner.mean(dim=0) - inner.mean(dim=1, keepdim=True) + inner.mean()
        values = torch.linalg.eigvalsh((centred + centred.T) / (2 * (num - 1)))
        root = values[-min(num - 1, x.shape[1]) :].clamp_min(0).sqrt().sum()  # all others are 0 up to rounding
        return max(float((self.real_mean - mean).square().sum() + self.real_trace + trace - 2 * root), 0.0)

    def with_interval(self) -> Mean:
        """Distance for all pairs, with a delete-a-group jackknife over pairs. A bootstrap would be biased: duplicates
        do not add to the rank of the covariance, and fewer distinct frames mean a larger distance."""
        everything = torch.arange(len(self.rows) // self.frames)
        value = self.distance(everything)
        if len(everything) < 2 * _GROUPS:
            return Mean(value, None)
        without = [self.distance(everything[everything % _GROUPS != group]) for group in range(_GROUPS)]
        return Mean(value, jackknife_interval(value, without))


_AS_GIVEN = "95 %, percentile bootstrap over pairs, the real images as given"
KERNEL = PathNumber(name="kd", direction="lower", format=".3f", shown="file", interval=_AS_GIVEN,
    metric="realism", meaning=(
    "Squared kernel distance (KID's kernel, unbiased) from real images of the frames {where}, as a set; 0 is no "
    "difference."))  # fmt: skip
MID_DIP = PathNumber(name="mid_dip", direction="lower", format=".3f", shown="short", interval=_AS_GIVEN,
    metric="realism", meaning=(
    "Kernel distance from real images of the frames halfway minus that of the end frames: the loss of realism along "
    "the path beyond that of the inverter; 0 is none."))  # fmt: skip
PRECISION = PathNumber(name="precision", direction="higher", format=".3f", interval=_AS_GIVEN,
    metric="realism", meaning=(
    "Share of the frames {where} that lie among real images, within the ball of one to its third neighbour "
    "(arXiv:1904.06991)."))  # fmt: skip
FRECHET = PathNumber(name="fd", direction="lower", format=".3f", shown="file", metric="realism",
    interval="95 %, jackknife over 10 groups of pairs, the real images as given", meaning=(
    "Fréchet distance from real images of the frames {where}, as a set; biased upwards by their small number, so "
    "compare only at equal numbers of frames."))  # fmt: skip


@dataclass(frozen=True)
class Realism:
    """Numbers of one method's sets of frames, and their resampled values, for differences between methods."""

    values: dict[str, Mean]
    draws: dict[str, np.ndarray]
    numbers: dict[str, PathNumber]


def realism(frames: Mapping[str, Tensor], real: RealFeatures, *, weights: np.ndarray, extractor: str) -> Realism:
    """Compute one method's numbers from the features of its frames by place: `shown_frames` name -> (P, F, dim).

    `kd_<extractor>_<place>` for every place and its `mid_dip`, and `precision_<extractor>_<place>` for the ends and the
    middle, are bootstrapped over pairs (rows of `weights`). `fd_<extractor>_<bin>` uses a jackknife.
    """
    found = Realism({}, {}, {})

    def add(number: PathNumber, value: Mean, draws: np.ndarray | None = None) -> None:
        found.numbers[number.name], found.values[number.name] = number, value
        if draws is not None:
            found.values[number.name] = replace(value, interval=percentile_interval(draws))
            found.draws[number.name] = draws

    kernels = {place: PairKernel(features, real) for place, features in frames.items()}
    points = {place: float(kernel.distance(np.ones((1, weights.shape[1])))[0]) for place, kernel in kernels.items()}
    draws = {place: kernel.distance(weights) for place, kernel in kernels.items()}
    for place in frames:
        add(_named(KERNEL, extractor, place), Mean(points[place], None), draws[place])
    dip = replace(MID_DIP, name=f"kd_{extractor}_{MID_DIP.name}", label=MID_DIP.name)
    add(dip, Mean(points["middle"] - points["ends"], None), draws["middle"] - draws["ends"])
    for place, shown in (("middle", PRECISION), ("ends", replace(PRECISION, shown="file"))):
        inside = real.holds(frames[place].flatten(0, 1)).view(len(frames[place]), -1).double().mean(dim=1).numpy()
        add(_named(shown, extractor, place), Mean(float(inside.mean()), None), weights @ inside / len(inside))
    for place in (bin_name(*each) for each in BINS):
        add(_named(FRECHET, extractor, place), PairFrechet(frames[place], real.statistics).with_interval())
    return found


def _named(number: PathNumber, extractor: str, place: str) -> PathNumber:
    """Rename, for example, `kd` to `kd_<extractor>_<place>` and fill the place into its meaning."""
    where = PLACES.get(place) or "from t = 0.{} to 0.{}".format(*(part.rstrip("0") for part in place.split("_")))
    name, label = f"{number.name}_{extractor}_{place}", f"{number.name}_{place}"
    return replace(number, name=name, label=label, meaning=number.meaning.format(where=where))
