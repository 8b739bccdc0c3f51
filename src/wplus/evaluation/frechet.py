"""Fréchet distance between the features of real and of generated images.

Heusel et al. 2017 (arXiv:1706.08500) call it FID when the features are those of one particular Inception network; any
other extractor's value carries that extractor's name, `fd_<extractor>`, and is never called FID.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from wplus.core.metric_result import MetricResult
from wplus.errors import UserError
from wplus.evaluation.bench import EvalContext
from wplus.evaluation.names import frechet_name
from wplus.evaluation.passes import Accumulated, FeaturePass, Sampling
from wplus.evaluation.statistics import FeatureStatistics, GroupedStatistics, jackknife_interval, union

MEANING = "How far the generated images are from the real ones, by mean and spread of their features; lower is better."
AT_INFINITY = "The same distance extrapolated to infinitely many generated images, so that their number has no say."
GROUPS_OF_A_HALF = 5  # of real images, for the floor's interval: their sums are kept, each as large as the covariance
FLOOR_MEANING = "The same distance between two halves of the real images: what the data scores against itself."


class FrechetReference:
    """One side of the distance, prepared: its mean and a root of its covariance are computed once."""

    def __init__(self, statistics: FeatureStatistics) -> None:
        self.mean, covariance = statistics.mean, statistics.covariance
        self.trace = covariance.trace()
        values, vectors = torch.linalg.eigh(covariance)
        # R (rank, dim) with R^T R the covariance. Directions without variance, of which few samples have many, are left
        # out: what rounding makes of them would be the smaller half of the eigenvalues below.
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
        trace_of_root = torch.linalg.eigvalsh(inner).clamp_min(0).sqrt().sum()  # looks at one triangle only
        squared = (self.mean - mean).square().sum() + self.trace + trace - 2 * trace_of_root
        return max(float(squared), 0.0)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Fréchet distance of two sets of features from their statistics; symmetric, 0 for equal ones."""
    return FrechetReference(a).distance(b)


class FrechetEstimates:
    """Distance of a reference from samples that come in groups, with 95 % intervals by the delete-a-group jackknife.

    A single group gives a value and no interval.
    """

    def __init__(self, reference: FrechetReference, groups: GroupedStatistics) -> None:
        whole = groups.whole
        self.value = reference.distance(whole)
        several = groups.groups if groups.num_groups > 1 else ()
        self._without = [reference.distance(rest) for rest in map(whole.__sub__, several)]

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
        FID-infinity). They fit a line to 15 random subsets, from a tenth of the samples up. Here the line goes through
        all G groups and the mean over all choices of G - 1: small subsets bend the line, for they have hardly more
        samples than features, and this one, G v - (G - 1) mean(v_g), is also the jackknife's own estimate without bias
        (Quenouille 1956), with its interval. For Gaussians of 64 dimensions it has a third to a half of the 15
        subsets' spread and a tenth of their bias, once there are three samples to a feature; with fewer, both miss. It
        may fall below zero where D is close to it: cutting that off would be a bias again.
        """
        num_groups = len(self._without)
        value = num_groups * self.value - (num_groups - 1) * sum(self._without) / num_groups
        low, high = jackknife_interval(value, self._without)
        return value, (low, high)


def halves_distance(groups: GroupedStatistics) -> tuple[float, tuple[float, float] | None]:
    """Distance between what is in the even groups and what is in the odd ones, and its 95 % interval.

    The interval is the jackknife's of two samples; two groups give none.
    """
    halves = [list(groups.groups)[start::2] for start in range(2)]
    one, other = map(union, halves)
    of_one, of_other = FrechetReference(one), FrechetReference(other)
    value = of_one.distance(other)
    if groups.num_groups == 2:
        return value, None
    without_one = [of_other.distance(one - group) for group in halves[0]]
    without_other = [of_one.distance(other - group) for group in halves[1]]
    low, high = jackknife_interval(value, without_one, without_other)
    return value, (max(low, 0.0), high)


class FrechetDistance:
    """Metric: the Fréchet distance of the real images from `num_generated` images, and a yardstick for it.

    Args:
        extractor: see `wplus.pretrained.extractor`; its name is part of the result's, see `wplus.evaluation.names`.
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

    def __init__(
        self,
        *,
        extractor: Any,
        num_generated: int = 50_000,
        num_real: int | str | None = None,
        mirror: str = "none",
        floor: str = "halves",
        num_groups: int = 10,
        extrapolate: bool = False,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
    ) -> None:
        _check(num_generated=num_generated, num_groups=num_groups, floor=floor, extrapolate=extrapolate)
        self.extractor, self.num_generated, self.num_groups, self.floor = extractor, num_generated, num_groups, floor
        self.extrapolate = extrapolate
        self.real = {"num": num_real, "mirror": mirror}
        self.sampling = Sampling(truncation_psi, truncation_cutoff, noise_mode)

    def plan(self, bench: EvalContext) -> None:
        """Ask for the statistics of both sides."""
        self._requests(*self._passes(bench))

    def __call__(self, bench: EvalContext) -> Iterator[MetricResult]:
        """Yield the distance, that at infinity where asked for, and the floor."""
        real, generated = self._passes(bench)
        of_real, of_generated = (request.value for request in self._requests(real, generated))
        name = frechet_name(self.extractor.name, real.protocol, generated.protocol)
        found = FrechetEstimates(FrechetReference(of_real.whole), of_generated)
        protocol = self.extractor.protocol | real.protocol | generated.protocol
        method = f"95 %, jackknife over {self.num_groups} groups of generated images"
        with_method = protocol | ({"interval": method} if self.num_groups else {})
        yield MetricResult(name, found.value, with_method, found.interval, meaning=MEANING)
        if self.extrapolate:
            line = {"extrapolation": f"line in 1 / N through {self.num_groups} and {self.num_groups - 1} groups"}
            value, interval = found.at_infinity
            yield MetricResult(f"{name}_infinity", value, with_method | line, interval, meaning=AT_INFINITY)
        if self.floor == "halves":
            yield self._floor(f"{name}_real_halves", real, of_real)

    def _floor(self, name: str, real: FeaturePass, groups: GroupedStatistics) -> MetricResult:
        num_images = real.num // real.copies
        nums = {"num_real": (num_images + 1) // 2 * real.copies, "num_other_real": num_images // 2 * real.copies}
        method = f"95 %, jackknife over {groups.num_groups // 2} groups of each half"
        protocol = self.extractor.protocol | real.protocol | nums
        protocol |= {"interval": method} if groups.num_groups > 2 else {}
        value, interval = halves_distance(groups)
        return MetricResult(name, value, protocol, interval, meaning=FLOOR_MEANING)

    def _passes(self, bench: EvalContext) -> tuple[FeaturePass, FeaturePass]:
        real = bench.real_images(**self.real)
        if real.num < 4 * real.copies:
            raise UserError(f"A Fréchet distance of {real.num} real images is not possible: at least 4 are needed.")
        generated = bench.generated(self.num_generated, self.sampling)
        _check_groups(self.num_groups, generated.num)
        return real, generated

    def _requests(self, real: FeaturePass, generated: FeaturePass) -> tuple[Accumulated, Accumulated]:
        return (
            real.collect(self.extractor, GroupedStatistics(self._num_real_groups(real), block=real.copies)),
            generated.collect(self.extractor, GroupedStatistics(max(self.num_groups, 1))),
        )

    def _num_real_groups(self, real: FeaturePass) -> int:
        """Two halves; in groups where there is an interval to make of them."""
        has_interval = self.floor == "halves" and self.num_groups and real.num >= 4 * GROUPS_OF_A_HALF * real.copies
        return 2 * GROUPS_OF_A_HALF if has_interval else 2


def _check(*, num_generated: int, num_groups: int, floor: str, extrapolate: bool) -> None:
    _check_groups(num_groups, num_generated)
    if extrapolate and not num_groups:
        raise UserError("extrapolate=true needs groups of generated images: num_groups=0 has none, 10 are usual.")
    if floor not in ("none", "halves"):
        raise UserError(f"floor={floor} is not known; allowed are none, halves.")


def _check_groups(num_groups: int, num_generated: int) -> None:
    if num_groups == 1 or num_groups < 0 or num_generated < max(2 * num_groups, 2):
        raise UserError(
            f"num_groups={num_groups} does not fit {num_generated} generated images: 0 groups (no interval), or from "
            "2 groups with at least 2 images each."
        )
