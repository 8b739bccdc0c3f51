"""Fréchet distance between the features of real and of generated images.

Heusel et al. 2017 (arXiv:1706.08500) call it FID when the features are those of one particular Inception network; any
other extractor's value carries that extractor's name, `fd_<extractor>`, and is never called FID.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wplus.core.distributed import rank_and_world, total
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import jackknife_interval
from wplus.errors import UserError, check_choice
from wplus.evaluation.context import EvalContext, check_groups
from wplus.evaluation.feature_pass import Accumulator
from wplus.evaluation.names import distribution_name
from wplus.evaluation.sampler import Sampling
from wplus.models.generator import NoiseMode
from wplus.pretrained.extractor import Extractor

GROUPS_OF_A_HALF = 5  # of real images, for the floor's interval: their sums are kept, each as large as the covariance
ROWS_AT_ONCE = 512  # of a group: what one matrix product takes in

DISTANCE = MetricInfo(
    meaning="How far the generated images are from the real ones, by mean and spread of their features; 0 is equal.",
    direction="lower",
)
AT_INFINITY = MetricInfo(
    meaning="Fréchet distance extrapolated to infinitely many generated images, so that their number has no say; 0 is "
    "equal, and equal sets may come out slightly below.",
    direction="lower",
)
FLOOR = MetricInfo(
    meaning="Fréchet distance between two halves of the real images, at half the number: what the data scores itself."
)


# Mean and covariance


@dataclass
class FeatureStatistics:
    """Number, sum (dim,) and sum of outer products (dim, dim) of feature vectors, in float64: enough for mean and
    covariance, also of a union or a rest."""

    num: int
    total: Tensor
    outer: Tensor

    @classmethod
    def of(cls, features: Tensor) -> FeatureStatistics:
        """Of features (N, dim), on their device."""
        x = features.detach().double()
        return cls(len(x), x.sum(dim=0), x.T @ x)

    def __add__(self, other: FeatureStatistics) -> FeatureStatistics:
        return FeatureStatistics(self.num + other.num, self.total + other.total, self.outer + other.outer)

    def __sub__(self, other: FeatureStatistics) -> FeatureStatistics:
        return FeatureStatistics(self.num - other.num, self.total - other.total, self.outer - other.outer)

    @property
    def mean(self) -> Tensor:
        """(dim,)."""
        return self.total / self.num

    @property
    def covariance(self) -> Tensor:
        """(dim, dim), unbiased: (sum x x^T - N m m^T) / (N - 1)."""
        return torch.addr(self.outer, self.mean, self.mean, alpha=-self.num).div_(self.num - 1)


class GroupedStatistics(Accumulator):
    """Statistics of features that are dealt to G groups: what a distance and its jackknife interval are made of.

    Row i goes to group (i // block) mod G: a block of rows (an image and its mirror image) stays together. Rows wait
    until they take half the memory of the groups' sums: few never make these sums, many make few large products.
    """

    def __init__(self, num_groups: int = 1, *, block: int = 1) -> None:
        self.num_groups, self.block = num_groups, block
        self.key = f"statistics of {num_groups} groups, blocks of {block}"
        self._sums: list[FeatureStatistics] = []

    def begin(self, dim: int, num: int, device: torch.device | str) -> None:
        self._num_waiting, room = 0, min(num, max(ROWS_AT_ONCE, dim) * self.num_groups)
        # One block of memory: pieces all over it would keep the extractor from using the same memory again and again.
        self._rows = torch.empty(room, dim, device=device)
        self._group_of = torch.empty(room, dtype=torch.int64, device=device)

    def add(self, features: Tensor, rows: Tensor) -> None:
        groups = (rows // self.block % self.num_groups).to(self._rows.device)
        self._rows = self._rows.to(features.dtype)
        while len(features):
            if self._num_waiting == len(self._rows):
                self._sum_up()
            place = slice(self._num_waiting, min(self._num_waiting + len(features), len(self._rows)))
            num = place.stop - place.start
            self._rows[place], self._group_of[place] = features[:num].detach(), groups[:num]
            self._num_waiting, features, groups = place.stop, features[num:], groups[num:]

    def merge(self) -> None:
        """Add the sums of all processes and bring them to the CPU; a single process leaves rows that wait waiting."""
        if self._sums or rank_and_world()[1] > 1:
            self._sum_up()
            self._rows = self._rows[:0].clone()
            self._sums = [FeatureStatistics(int(total(torch.tensor(group.num))), total(group.total).cpu(),
                                            total(group.outer).cpu()) for group in self._sums]  # fmt: skip

    def _sum_up(self) -> None:
        """The sums of all groups take in the rows that wait."""
        waiting = list(self._waiting())
        self._sums = [a + b for a, b in zip(self._sums, waiting, strict=True)] if self._sums else waiting
        self._num_waiting = 0

    def _waiting(self) -> Iterator[FeatureStatistics]:
        """Of the rows that wait, group after group."""
        rows, group_of = self._rows[: self._num_waiting], self._group_of[: self._num_waiting]
        return (FeatureStatistics.of(rows[group_of == number]) for number in range(self.num_groups))

    @property
    def groups(self) -> Iterator[FeatureStatistics]:
        """The groups' statistics on the CPU, one after the other; made for each call where rows still wait."""
        if self._sums:
            return iter(self._sums)
        return (FeatureStatistics(group.num, group.total.cpu(), group.outer.cpu()) for group in self._waiting())

    @property
    def whole(self) -> FeatureStatistics:
        """All groups together."""
        return functools.reduce(operator.add, self.groups)

    def arrays(self) -> dict[str, np.ndarray]:
        """Numbers, sums and sums of products, stacked over the groups."""
        columns = zip(*((np.array(g.num), g.total.numpy(), g.outer.numpy()) for g in self.groups), strict=True)
        return {name: np.stack(column) for name, column in zip(("nums", "totals", "outers"), columns, strict=True)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        sums = zip(arrays["nums"], arrays["totals"], arrays["outers"], strict=True)
        self._sums = [FeatureStatistics(int(num), torch.from_numpy(t), torch.from_numpy(o)) for num, t, o in sums]


# The distance


class FrechetReference:
    """One side of the distance, prepared: its mean and a root of its covariance are computed once.

    `rows` (N, dim) are the features themselves, for few of them: centred, they are a root, and the decomposition of a
    matrix (dim, dim) is saved.
    """

    def __init__(self, statistics: FeatureStatistics, *, rows: Tensor | None = None) -> None:
        self.mean, covariance = statistics.mean, statistics.covariance
        self.trace = covariance.trace()
        if rows is not None:
            self.root = (rows.double() - self.mean) / (len(rows) - 1) ** 0.5
            return
        values, vectors = torch.linalg.eigh(covariance)
        # R (rank, dim) with R^T R the covariance, without the directions that only rounding gives a variance.
        kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
        self.root = (vectors[:, kept] * values[kept].sqrt()).T

    def distance(self, statistics: FeatureStatistics) -> float:
        """|m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)), the squared 2-Wasserstein distance of two Gaussians.

        tr sqrt(S1 S2) = tr sqrt(R S2 R^T) with R^T R = S1, and R S2 R^T is symmetric and positive: its eigenvalues
        exist and are real, where a matrix square root of S1 S2 may fail or turn complex (Dowson & Landau 1982).
        """
        mean, covariance = statistics.mean.to(self.mean), statistics.covariance.to(self.root)
        trace, inner = covariance.trace(), self.root @ covariance
        del covariance  # these matrices are most of what the metric holds
        inner = inner @ self.root.T
        trace_of_root = torch.linalg.eigvalsh(inner).clamp_min(0).sqrt().sum()
        squared = (self.mean - mean).square().sum() + self.trace + trace - 2 * trace_of_root
        return max(float(squared), 0.0)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Fréchet distance of two sets of features from their statistics; symmetric, 0 for equal ones."""
    return FrechetReference(a).distance(b)


class FrechetEstimates:
    """Distance of a reference from samples in groups, with 95 % jackknife intervals; a single group has none."""

    def __init__(self, reference: FrechetReference, groups: GroupedStatistics) -> None:
        whole = groups.whole
        self.value = reference.distance(whole)
        several = groups.groups if groups.num_groups > 1 else ()
        self._without = [reference.distance(whole - group) for group in several]

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the distance at the number of samples that there are."""
        if not self._without:
            return None
        low, high = jackknife_interval(self.value, self._without)
        return max(low, 0.0), high

    @property
    def at_infinity(self) -> tuple[float, tuple[float, float]]:
        """The distance at infinitely many samples, and its interval.

        At N samples the distance is D + c / N to first order (Chong & Forsyth 2020, arXiv:1911.07023, who call D
        FID-infinity). They fit a line to 15 random subsets, from a tenth of the samples up, and small subsets bend it.
        Here the line goes through all G groups and the mean over all choices of G - 1: G v - (G - 1) mean(v_g), which
        is also the jackknife's estimate without bias (Quenouille 1956), with its interval. From three samples to a
        feature on it has a third to a half of the 15 subsets' spread and a tenth of their bias. It may fall below zero
        where D is close to it: cutting that off would be a bias again.
        """
        num_groups = len(self._without)
        value = num_groups * self.value - (num_groups - 1) * sum(self._without) / num_groups
        return value, jackknife_interval(value, self._without)


def halves_distance(groups: GroupedStatistics) -> tuple[float, tuple[float, float] | None]:
    """Distance between the even and the odd groups, and its 95 % interval, the jackknife's of two samples; two groups
    give none."""
    halves = [list(groups.groups)[start::2] for start in range(2)]
    one, other = (functools.reduce(operator.add, half) for half in halves)
    of_one, of_other = FrechetReference(one), FrechetReference(other)
    value = of_one.distance(other)
    if groups.num_groups == 2:
        return value, None
    without_one = [of_other.distance(one - group) for group in halves[0]]
    without_other = [of_one.distance(other - group) for group in halves[1]]
    low, high = jackknife_interval(value, without_one, without_other)
    return value, (max(low, 0.0), high)


# The metric


def fd(context: EvalContext, *, extractor: Extractor, num_generated: int = 10_000, num_real: int | str | None = None,
       mirror: str = "none", floor: str = "halves", num_groups: int = 10, extrapolate: bool = False,
       truncation_psi: float = 1.0, truncation_cutoff: int | None = None,
       noise_mode: NoiseMode = "const") -> Iterator[MetricResult]:  # fmt: skip
    """Yield the Fréchet distance of generated from real images, that at infinity where asked for, and a yardstick.

    Args:
        extractor: its name is part of the results', see `wplus.evaluation.names`.
        num_generated: all Fréchet distances are biased upwards by small numbers; compare at equal ones only.
        num_real: of the real images; None takes all that are given, "all" refuses a part of the data set.
        mirror: "x" adds every real image flipped left to right, for generators that were trained with flips.
        floor: "halves" also yields `<name>_real_halves`, the distance between two halves of the real images: what the
            same data scores against itself at half the number. "none" does not.
        num_groups: of generated images, for the interval (jackknife; the real images taken as given); 0: no interval,
            of the floor neither, which otherwise has that of five groups of each half.
        extrapolate: also yields `<name>_infinity`, see `FrechetEstimates.at_infinity`; it corrects for the number of
            generated images, not for that of the real ones.
        truncation_psi, truncation_cutoff, noise_mode: how the generator is sampled.
    """
    generated = context.generated(num_generated, Sampling(truncation_psi, truncation_cutoff, noise_mode))
    check_groups(num_groups, generated.num)
    check_choice("floor", floor, ("none", "halves"))
    if extrapolate and not num_groups:
        raise UserError("extrapolate=true needs groups of generated images: num_groups=0 has none, 10 are usual.")
    real = context.real_images(num=num_real, mirror=mirror)
    if real.num < 4 * real.copies:
        raise UserError(f"num_real must be at least 4 for a Fréchet distance, got {real.source.num}.")
    has_interval = floor == "halves" and num_groups and real.num >= 4 * GROUPS_OF_A_HALF * real.copies
    num_real_groups = 2 * GROUPS_OF_A_HALF if has_interval else 2
    of_real = real.ask(extractor, GroupedStatistics(num_real_groups, block=real.copies))
    of_generated = generated.ask(extractor, GroupedStatistics(max(num_groups, 1)))

    def results() -> Iterator[MetricResult]:
        protocol = extractor.protocol | real.protocol | generated.protocol
        name = distribution_name("fid", "fd", protocol, famous="fid50k_full")
        found = FrechetEstimates(FrechetReference(of_real.value.whole), of_generated.value)
        if num_groups:
            protocol["interval"] = f"95 %, jackknife over {num_groups} groups of generated images"
        yield MetricResult.of(DISTANCE, name, found.value, protocol=protocol, interval=found.interval)
        if extrapolate:
            line = {"extrapolation": f"line in 1 / N through {num_groups} and {num_groups - 1} groups"}
            value, interval = found.at_infinity
            yield MetricResult.of(AT_INFINITY, f"{name}_infinity", value, protocol=protocol | line, interval=interval)
        if floor == "halves":
            value, floor_interval = halves_distance(of_real.value)
            nums = {"num_real": (real.source.num + 1) // 2 * real.copies,
                    "num_other_real": real.source.num // 2 * real.copies}  # fmt: skip
            protocol = extractor.protocol | real.protocol | nums
            if has_interval:
                protocol["interval"] = f"95 %, jackknife over {GROUPS_OF_A_HALF} groups of each half"
            yield MetricResult.of(FLOOR, f"{name}_real_halves", value, protocol=protocol, interval=floor_interval)

    return results()
