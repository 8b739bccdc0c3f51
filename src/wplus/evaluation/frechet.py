"""Fréchet distance between the features of real and generated images.

Heusel et al. 2017 (arXiv:1706.08500) call it FID, which refers to one particular Inception network; with any other
extractor the value is named `fd_<extractor>` and never FID.
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

GROUPS_OF_A_HALF = 5  # per half of the real images, for the floor's interval; each keeps sums as large as a covariance
ROWS_AT_ONCE = 512  # rows of a group that one matrix product processes

DISTANCE = MetricInfo(
    meaning="How far the generated images are from the real ones, by mean and covariance of features; 0 is ideal.",
    direction="lower",
)
AT_INFINITY = MetricInfo(
    meaning="Fréchet distance extrapolated to infinitely many generated images, which removes the bias of finite "
    "samples; 0 is ideal, and equal distributions may come out slightly below.",
    direction="lower",
)
FLOOR = MetricInfo(
    meaning="Fréchet distance between two halves of the real images: the score of the data itself, at half the number."
)


# Mean and covariance


@dataclass
class FeatureStatistics:
    """Count, sum (dim,) and sum of outer products (dim, dim) of feature vectors, in float64. These determine mean and
    covariance and can be added and subtracted for unions and differences of sets."""

    num: int
    total: Tensor
    outer: Tensor

    @classmethod
    def of(cls, features: Tensor) -> FeatureStatistics:
        """Compute the statistics of features (N, dim), on their device."""
        x = features.detach().double()
        return cls(len(x), x.sum(dim=0), x.T @ x)

    def __add__(self, other: FeatureStatistics) -> FeatureStatistics:
        return FeatureStatistics(self.num + other.num, self.total + other.total, self.outer + other.outer)

    def __sub__(self, other: FeatureStatistics) -> FeatureStatistics:
        return FeatureStatistics(self.num - other.num, self.total - other.total, self.outer - other.outer)

    @property
    def mean(self) -> Tensor:
        """Mean (dim,)."""
        return self.total / self.num

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance (dim, dim): (sum x x^T - N m m^T) / (N - 1)."""
        return torch.addr(self.outer, self.mean, self.mean, alpha=-self.num).div_(self.num - 1)


class GroupedStatistics(Accumulator):
    """Statistics of features split into G groups, from which a distance and its jackknife interval are computed.

    Row i goes to group (i // block) mod G, so a block of rows (an image and its mirror image) stays together. Rows are
    buffered until they take half the memory of the groups' sums: small sets never allocate these sums, and large sets
    need only a few large matrix products.
    """

    def __init__(self, num_groups: int = 1, *, block: int = 1) -> None:
        self.num_groups, self.block = num_groups, block
        self.key = f"statistics of {num_groups} groups, blocks of {block}"
        self._sums: list[FeatureStatistics] = []

    def begin(self, dim: int, num: int, device: torch.device | str) -> None:
        self._num_waiting, room = 0, min(num, max(ROWS_AT_ONCE, dim) * self.num_groups)
        # One contiguous allocation: scattered pieces would keep the extractor from reusing the same memory.
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
        """Add up the sums of all processes and move them to the CPU; a single process keeps its buffered rows."""
        if self._sums or rank_and_world()[1] > 1:
            self._sum_up()
            self._rows = self._rows[:0].clone()
            self._sums = [FeatureStatistics(int(total(torch.tensor(group.num))), total(group.total).cpu(),
                                            total(group.outer).cpu()) for group in self._sums]  # fmt: skip

    def _sum_up(self) -> None:
        """Add the buffered rows to the sums of all groups."""
        waiting = list(self._waiting())
        self._sums = [a + b for a, b in zip(self._sums, waiting, strict=True)] if self._sums else waiting
        self._num_waiting = 0

    def _waiting(self) -> Iterator[FeatureStatistics]:
        """Yield the statistics of the buffered rows, one group at a time."""
        rows, group_of = self._rows[: self._num_waiting], self._group_of[: self._num_waiting]
        return (FeatureStatistics.of(rows[group_of == number]) for number in range(self.num_groups))

    @property
    def groups(self) -> Iterator[FeatureStatistics]:
        """The groups' statistics on the CPU, one at a time; recomputed on each access while rows are still buffered."""
        if self._sums:
            return iter(self._sums)
        return (FeatureStatistics(group.num, group.total.cpu(), group.outer.cpu()) for group in self._waiting())

    @property
    def whole(self) -> FeatureStatistics:
        """Statistics of all groups together."""
        return functools.reduce(operator.add, self.groups)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return counts, sums and sums of outer products, stacked over the groups."""
        columns = zip(*((np.array(g.num), g.total.numpy(), g.outer.numpy()) for g in self.groups), strict=True)
        return {name: np.stack(column) for name, column in zip(("nums", "totals", "outers"), columns, strict=True)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        sums = zip(arrays["nums"], arrays["totals"], arrays["outers"], strict=True)
        self._sums = [FeatureStatistics(int(num), torch.from_numpy(t), torch.from_numpy(o)) for num, t, o in sums]


# The distance


class FrechetReference:
    """One side of the distance, with its mean and a square root of its covariance precomputed.

    For small sets `rows` (N, dim) can pass the features themselves: once centred, they are such a root, which saves the
    decomposition of a (dim, dim) matrix.
    """

    def __init__(self, statistics: FeatureStatistics, *, rows: Tensor | None = None) -> None:
        self.mean, covariance = statistics.mean, statistics.covariance
        self.trace = covariance.trace()
        if rows is not None:
            self.root = (rows.double() - self.mean) / (len(rows) - 1) ** 0.5
            return
        values, vectors = torch.linalg.eigh(covariance)
        # R (rank, dim) with R^T R the covariance, without directions whose variance is only rounding error.
        kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
        self.root = (vectors[:, kept] * values[kept].sqrt()).T

    def distance(self, statistics: FeatureStatistics) -> float:
        """Return |m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)), the squared 2-Wasserstein distance between two Gaussians.

        tr sqrt(S1 S2) = tr sqrt(R S2 R^T) with R^T R = S1. R S2 R^T is symmetric positive semidefinite, so its
        eigenvalues are real, whereas a matrix square root of S1 S2 may fail or be complex (Dowson & Landau 1982).
        """
        mean, covariance = statistics.mean.to(self.mean), statistics.covariance.to(self.root)
        trace, inner = covariance.trace(), self.root @ covariance
        del covariance  # these matrices account for most of the metric's memory
        inner = inner @ self.root.T
        trace_of_root = torch.linalg.eigvalsh(inner).clamp_min(0).sqrt().sum()
        squared = (self.mean - mean).square().sum() + self.trace + trace - 2 * trace_of_root
        return max(float(squared), 0.0)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Fréchet distance between two sets of features, from their statistics; symmetric, and 0 for equal statistics."""
    return FrechetReference(a).distance(b)


class FrechetEstimates:
    """Distance between a reference and grouped samples, with 95 % jackknife intervals (none for a single group)."""

    def __init__(self, reference: FrechetReference, groups: GroupedStatistics) -> None:
        whole = groups.whole
        self.value = reference.distance(whole)
        several = groups.groups if groups.num_groups > 1 else ()
        self._without = [reference.distance(whole - group) for group in several]

    @property
    def interval(self) -> tuple[float, float] | None:
        """Interval of the distance at the actual number of samples."""
        return jackknife_interval(self.value, self._without, lowest=0.0) if self._without else None

    @property
    def at_infinity(self) -> tuple[float, tuple[float, float]]:
        """The distance extrapolated to infinitely many samples, and its interval.

        With N samples the distance is D + c / N to first order (Chong & Forsyth 2020, arXiv:1911.07023, who call D
        FID-infinity). They fit a line to 15 random subsets, the smallest a tenth of the samples, where the relation is
        no longer linear. Here the line passes through all G groups and the mean over all choices of G - 1 groups:
        G v - (G - 1) mean(v_g), which is also the bias-corrected jackknife estimate (Quenouille 1956), with its
        interval. From three samples per feature on, it has a third to a half of the spread of the 15 subsets and a
        tenth of their bias. It may be negative when D is close to zero; clipping it would reintroduce bias.
        """
        num_groups = len(self._without)
        value = num_groups * self.value - (num_groups - 1) * sum(self._without) / num_groups
        return value, jackknife_interval(value, self._without)


def halves_distance(groups: GroupedStatistics) -> tuple[float, tuple[float, float] | None]:
    """Distance between even and odd groups, and its 95 % two-sample jackknife interval (None for two groups)."""
    halves = [list(groups.groups)[start::2] for start in range(2)]
    one, other = (functools.reduce(operator.add, half) for half in halves)
    of_one, of_other = FrechetReference(one), FrechetReference(other)
    value = of_one.distance(other)
    if groups.num_groups == 2:
        return value, None
    without_one = [of_other.distance(one - group) for group in halves[0]]
    without_other = [of_one.distance(other - group) for group in halves[1]]
    return value, jackknife_interval(value, without_one, without_other, lowest=0.0)


# The metric


def fd(context: EvalContext, *, extractor: Extractor, num_generated: int = 10_000, num_real: int | str | None = None,
       mirror: str = "none", floor: str = "halves", num_groups: int = 10, extrapolate: bool = False,
       truncation_psi: float = 1.0, truncation_cutoff: int | None = None,
       noise_mode: NoiseMode = "const") -> Iterator[MetricResult]:  # fmt: skip
    """Yield the Fréchet distance between generated and real images, optionally its extrapolation, and a floor.

    Args:
        extractor: its name is part of the result names, see `wplus.evaluation.names`.
        num_generated: small samples bias Fréchet distances upwards; compare only at equal numbers.
        num_real: number of real images; None uses all given images, "all" rejects a subset of the data set.
        mirror: "x" adds a left-right flipped copy of every real image, for generators trained with flips.
        floor: "halves" also yields `<name>_real_halves`, the distance between two halves of the real images, i.e. what
            the data scores against itself at half the sample size; "none" does not.
        num_groups: groups of generated images for the jackknife interval (real images taken as given); 0: no interval,
            for the floor either, which otherwise uses five groups per half.
        extrapolate: also yields `<name>_infinity`, see `FrechetEstimates.at_infinity`; it corrects for the number of
            generated images, not of real ones.
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
