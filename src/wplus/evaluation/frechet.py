"""Fréchet distance between the features of real and of generated images.

Heusel et al. 2017 (arXiv:1706.08500) call it FID when the features are those of one particular Inception network; any
other extractor's value carries that extractor's name, `fd_<extractor>`, and is never called FID.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from wplus.errors import UserError
from wplus.evaluation.bench import Bench
from wplus.evaluation.names import frechet_name
from wplus.evaluation.passes import Collected, Pass, Sampling
from wplus.evaluation.statistics import FeatureStatistics, GroupedStatistics, jackknife_interval
from wplus.measurement import Measurement

MEANING = "How far the generated images are from the real ones as sets: their features' means and spreads; 0 is equal."
FLOOR_MEANING = (
    "The same distance between two halves of the real images: no generator can be expected to beat it by much."
)


class FrechetReference:
    """One side of the distance, prepared: its mean and the root of its covariance are computed once."""

    def __init__(self, statistics: FeatureStatistics) -> None:
        self.mean, covariance = statistics.mean, statistics.covariance
        self.trace = covariance.trace()
        values, vectors = torch.linalg.eigh(covariance)
        self.root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T

    def distance(self, statistics: FeatureStatistics) -> float:
        """|m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)), the squared 2-Wasserstein distance of two Gaussians.

        tr sqrt(S1 S2) = tr sqrt(R S2 R) with R the root of S1, and R S2 R is symmetric and positive: eigenvalues always
        exist and are real, where a matrix square root of S1 S2 may fail or turn complex (Dowson & Landau 1982).
        """
        mean, covariance = statistics.mean.to(self.mean), statistics.covariance.to(self.root)
        inner = self.root @ covariance @ self.root
        trace_of_root = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp_min(0).sqrt().sum()
        squared = (self.mean - mean).square().sum() + self.trace + covariance.trace() - 2 * trace_of_root
        return max(float(squared), 0.0)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Fréchet distance of two sets of features from their statistics; symmetric, 0 for equal ones."""
    return FrechetReference(a).distance(b)


class FrechetDistance:
    """Metric: the Fréchet distance of the real images from `num_generated` images, and a yardstick for it.

    Args:
        extractor: see `wplus.evaluation.extractors`; its name is part of the result's, see `wplus.evaluation.names`.
        num_generated: all Fréchet distances are biased upwards by small numbers; compare at equal ones only.
        num_real: of the real images; None takes all.
        mirror: "x" adds every real image flipped left to right, for generators that were trained with flips.
        floor: "halves" also yields `<name>_real_halves`, the distance between two halves of the real images: what the
            same data scores against itself at half the number. "none" does not.
        num_groups: of generated images, for the interval (jackknife; the real images taken as given); 0: no interval.
        truncation_psi, truncation_cutoff, noise_mode: how the generator is sampled.
    """

    def __init__(
        self,
        *,
        extractor: Any,
        num_generated: int = 50_000,
        num_real: int | None = None,
        mirror: str = "none",
        floor: str = "halves",
        num_groups: int = 10,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
    ) -> None:
        _check(num_generated=num_generated, num_groups=num_groups, floor=floor)
        self.extractor, self.num_generated, self.num_groups, self.floor = extractor, num_generated, num_groups, floor
        self.real = {"num": num_real, "mirror": mirror}
        self.sampling = Sampling(truncation_psi, truncation_cutoff, noise_mode)

    def plan(self, bench: Bench) -> None:
        """Ask for the statistics of both sides."""
        self._requests(*self._passes(bench))

    def __call__(self, bench: Bench) -> Iterator[Measurement]:
        """Yield the distance, then its floor."""
        real, generated = self._passes(bench)
        halves, groups = (request.value.groups for request in self._requests(real, generated))
        name = frechet_name(self.extractor.name, real.protocol, generated.protocol)
        value, interval = _with_interval(FrechetReference(halves[0] + halves[1]), groups)
        method = {"interval": f"95 %, jackknife over {self.num_groups} groups of generated images"} if interval else {}
        protocol = self.extractor.protocol | real.protocol | generated.protocol | method
        yield Measurement(name, value, protocol, interval, meaning=MEANING)
        if self.floor == "halves":
            counts = {"num_real": halves[0].num, "num_other_real": halves[1].num}
            protocol = self.extractor.protocol | real.protocol | counts
            floor = frechet_distance(*halves)
            yield Measurement(f"{name}_real_halves", floor, protocol, meaning=FLOOR_MEANING)

    def _passes(self, bench: Bench) -> tuple[Pass, Pass]:
        real = bench.real_images(**self.real)
        if real.num < 4 * real.copies:
            raise UserError(f"A Fréchet distance of {real.num} real images is not possible: at least 4 are needed.")
        return real, bench.generated(self.num_generated, self.sampling)

    def _requests(self, real: Pass, generated: Pass) -> tuple[Collected, Collected]:
        return (
            real.collect(self.extractor, GroupedStatistics(2, block=real.copies)),
            generated.collect(self.extractor, GroupedStatistics(max(self.num_groups, 1))),
        )


def _with_interval(
    reference: FrechetReference, groups: list[FeatureStatistics]
) -> tuple[float, tuple[float, float] | None]:
    whole = sum(groups[1:], groups[0])
    value = reference.distance(whole)
    if len(groups) == 1:
        return value, None
    low, high = jackknife_interval(value, [reference.distance(whole - group) for group in groups])
    return value, (max(low, 0.0), high)


def _check(*, num_generated: int, num_groups: int, floor: str) -> None:
    if num_groups == 1 or num_groups < 0 or num_generated < max(2 * num_groups, 2):
        raise UserError(
            f"num_groups={num_groups} does not fit num_generated={num_generated}: 0 groups (no interval), or from "
            "2 groups with at least 2 images each."
        )
    if floor not in ("none", "halves"):
        raise UserError(f"floor={floor} is not known; allowed are none, halves.")
