"""Fréchet distance between the features of real and of generated images.

Heusel et al. 2017 (arXiv:1706.08500) call it FID when the features are those of one particular Inception network; any
other extractor's value carries that extractor's name, `fd_<extractor>`, and is never called FID.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.evaluation.measure import Images, Progress, check_images, generator_protocol
from wplus.evaluation.sampler import generated_images, index_batches
from wplus.evaluation.statistics import FeatureStatistics, GroupedStatistics, cached_statistics, jackknife_interval
from wplus.measurement import Measurement
from wplus.progress import track


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


def frechet(
    models: Any,
    *,
    real: Images | None,
    extractor: Any,
    batch_size: int,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Progress = track,
    num_generated: int = 50_000,
    num_real: int | None = None,
    mirror: str = "none",
    floor: str = "halves",
    num_groups: int = 10,
    cache_dir: str | None = None,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    noise_mode: str = "const",
) -> Iterator[Measurement]:
    """Yield `fd_<extractor>` of the real images against `num_generated` images, and a yardstick for it.

    `num_real` None takes all real images, a number that many of them, drawn once and for all. `mirror` "x" adds every
    real image flipped left to right, for generators that were trained with flips. Statistics of real images are kept in
    `cache_dir` (None: nowhere). The interval is that of the sampled generated images (jackknife over `num_groups`
    groups; 0 for none), the real ones taken as given. All Fréchet distances are biased upwards by small numbers:
    `floor` "halves" also yields the distance between two random halves of the real images,
    `fd_<extractor>_real_halves`, which is what the same data scores against itself at half the number.
    """
    _check(num_generated=num_generated, num_groups=num_groups, floor=floor)
    if real is not None:
        check_images(models.generator, real)
    extractor = extractor.to(device)
    computing = {"batch_size": batch_size, "device": device, "progress": progress}
    halves = real_halves(real, extractor, num_real=num_real, mirror=mirror, cache_dir=cache_dir, **computing)
    sampling = {"truncation_psi": truncation_psi, "truncation_cutoff": truncation_cutoff, "noise_mode": noise_mode}
    count = {"num_generated": num_generated, "seed": seed}
    groups = _generated_groups(
        models.generator, extractor, real=real, num_groups=num_groups, **count, **computing, **sampling
    )

    value, interval = _with_interval(FrechetReference(halves[0] + halves[1]), groups)
    method = {} if interval is None else {"interval": f"95 %, jackknife over {num_groups} groups of generated images"}
    data = extractor.protocol | {"data": real.fingerprint, "mirror": mirror}  # type: ignore[union-attr]
    counts = {"num_real": halves[0].num + halves[1].num, **count}
    protocol = data | counts | generator_protocol(models, **sampling) | method
    yield Measurement(f"fd_{extractor.name}", value, protocol, interval)
    if floor == "halves":
        protocol = data | {"num_real": halves[0].num, "num_other_real": halves[1].num}
        yield Measurement(f"fd_{extractor.name}_real_halves", frechet_distance(*halves), protocol)


def real_halves(
    real: Images | None,
    extractor: Any,
    *,
    num_real: int | None = None,
    mirror: str = "none",
    cache_dir: str | None = None,
    batch_size: int,
    device: torch.device | str = "cpu",
    progress: Progress = track,
) -> list[FeatureStatistics]:
    """Statistics of two random halves of the real images, on the CPU; a flipped copy stays with its original."""
    rows = _chosen(real, num_real)
    _known("mirror", mirror, ("none", "x"))
    assert real is not None

    def compute() -> list[FeatureStatistics]:
        halves = [FeatureStatistics.empty(extractor.dim, device) for _ in range(2)]
        parts = zip(halves, rows.chunk(2), strict=True)
        batches = [(half, batch) for half, part in parts for batch in part.split(batch_size)]
        for half, batch in progress(batches, "Features of real images", total=len(batches)):
            images = real.batch(batch)[0].to(device)
            half.add(extractor(images))
            if mirror == "x":
                half.add(extractor(images.flip(3)))
        return [half.cpu() for half in halves]

    key = {"data": real.fingerprint, "num": len(rows), "size": real.resolution, "mirror": mirror, **extractor.protocol}
    return cached_statistics(cache_dir, key, compute)


def _chosen(real: Images | None, num_real: int | None) -> Tensor:
    """Numbers of the real images to measure, in random order; no seed, because all runs share their statistics."""
    num = 0 if real is None else len(real)
    wanted = num if num_real is None else num_real
    if not 4 <= wanted <= num:
        raise UserError(
            f"A Fréchet distance of {wanted} real images is not possible: at least 4, at most the {num} given."
        )
    return torch.randperm(num, generator=torch.Generator().manual_seed(0))[:wanted]


def _generated_groups(generator: Any, extractor: Any, *, num_generated: int, num_groups: int, progress: Progress,
                      batch_size: int, device: Any, **sampling: Any) -> list[FeatureStatistics]:  # fmt: skip
    """Statistics of generated images, dealt to groups (one where no interval is wanted), on the CPU."""
    groups = GroupedStatistics(max(num_groups, 1), extractor.dim, device)
    images = generated_images(generator, num=num_generated, batch_size=batch_size, device=device, **sampling)
    num_batches = len(index_batches(num_generated, batch_size))
    for batch in progress(images, "Features of generated images", total=num_batches):
        groups.add(extractor(batch))
    return [group.cpu() for group in groups.groups]


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
    _known("floor", floor, ("none", "halves"))


def _known(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{name}={value} is not known; allowed are {', '.join(allowed)}.")
