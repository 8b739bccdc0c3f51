"""Diversity, Fréchet distance, precision and recall on few generated images: for monitoring, not for publication."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.core.images import to_float
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import proportion_interval
from wplus.errors import check_number
from wplus.evaluation.context import check_groups
from wplus.evaluation.frechet import FeatureStatistics, FrechetEstimates, FrechetReference, GroupedStatistics
from wplus.evaluation.manifold import PRECISION_K, precision_recall
from wplus.evaluation.names import VGG16, distribution_name
from wplus.pretrained.seen import marked_result
from wplus.probes.probe import ProbeContext
from wplus.training.snapshot import ProbeResult

_DISTANCE = (
    "distance of two generated images' {}, over that of two real ones: 1 is as diverse as the data, 0 one image."
)
_SHARE = "Share of the {} images that lie among the {} ones in feature space; depends on the number of images."
DIVERSITY = MetricInfo(meaning="Mean " + _DISTANCE.format("features"), direction="higher")
DIVERSITY_PIXELS = MetricInfo(meaning="Root mean square " + _DISTANCE.format("pixels"), direction="higher")
PRECISION = MetricInfo(meaning=_SHARE.format("generated", "training"), direction="higher")
RECALL = MetricInfo(meaning=_SHARE.format("training", "generated"), direction="higher")
DISTANCE = MetricInfo(
    meaning="Distance of few generated images from as many training images, by mean and covariance of their features: "
    "biased upwards, comparable only at equal numbers of images; 0 is equal.",
    direction="lower",
)


def diversity(context: ProbeContext, *, num_images: int = 1000) -> ProbeResult:
    """Diversity of generated images relative to real ones: probe/diversity_<extractor> and probe/diversity_pixels.

    Both sides have the same number of images, at most `num_images`.
    """
    check_number("num_images", num_images, lowest=2, whole=True)
    num = min(num_images, len(context.data.train))
    if num < 2:
        return ProbeResult()
    features = (context.features(which, num).double() for which in ("generated", "train"))
    pixels = context.images("generated", num).clamp(-1, 1), to_float(context.images("train", num))
    of_features = ratio(*(float(F.pdist(each).mean()) for each in features))
    of_pixels = ratio(*map(rms_distance, pixels))
    name = context.of_extractor(f"probe/diversity_{context.data.extractor.name}")
    return ProbeResult(values={name: (of_features, DIVERSITY), "probe/diversity_pixels": (of_pixels, DIVERSITY_PIXELS)})


def fd(context: ProbeContext, *, num_images: int = 500, num_groups: int = 5) -> ProbeResult:
    """Fréchet distance of generated images from as many training images: val/fd_<extractor>.

    The interval is a jackknife over `num_groups` groups of generated images; 0: no interval. Empty for data with fewer
    than four images, or fewer than two per group.
    """
    check_number("num_images", num_images, lowest=4, whole=True)
    check_groups(num_groups, num_images)
    num = min(num_images, len(context.data.train))
    if num < max(4, 2 * num_groups):
        return ProbeResult()
    real = context.data.once(("frechet", num), lambda: _reference(context.features("train", num)))
    generated = context.features("generated", num)
    if real is None or not generated.isfinite().all():
        return ProbeResult()
    groups = GroupedStatistics(max(num_groups, 1))
    groups.begin(generated.shape[1], num, generated.device)
    groups.add(generated, torch.arange(num))
    found, protocol = FrechetEstimates(real, groups), context.protocol(num)
    if num_groups:
        protocol["interval"] = f"95 %, jackknife over {num_groups} groups of generated images"
    name = distribution_name("fid", "fd", protocol, famous="fid50k_full")
    result = MetricResult.of(DISTANCE, name, found.value, protocol=protocol, interval=found.interval)
    return ProbeResult.measured([marked_result(result, context.generator.saw)])


def _reference(features: Tensor) -> FrechetReference | None:
    """Return the reference statistics, or None if the features are not finite."""
    return FrechetReference(FeatureStatistics.of(features), rows=features) if features.isfinite().all() else None


def recall(context: ProbeContext, *, num_images: int = 1000, k: int = 3) -> ProbeResult:
    """Improved precision and recall (Kynkäänniemi et al. 2019) on equal numbers of generated and training images.

    Values: val/precision_<extractor>, val/recall_<extractor>. Empty for data with at most k images.
    """
    check_number("num_images", num_images, lowest=2, whole=True)
    check_number("k", k, lowest=1, highest=num_images - 1, whole=True)
    num = min(num_images, len(context.data.train))
    if num <= k:
        return ProbeResult()
    found = precision_recall(*(context.features(which, num) for which in ("train", "generated")), k=k)
    protocol = context.protocol(num) | {"neighbour": k, "interval": "95 %, Wilson's score interval, balls as given"}
    results = []
    for part, info, value in zip(("precision", "recall"), (PRECISION, RECALL), found, strict=True):
        name = distribution_name(f"{part}_{VGG16}", part, protocol, famous="", famous_extractor=VGG16)
        name += f"_k{k}" * (k != PRECISION_K)
        results.append(MetricResult.of(info, name, value, protocol=protocol, interval=proportion_interval(value, num)))
    return ProbeResult.measured(marked_result(result, context.generator.saw) for result in results)


def rms_distance(images: Tensor) -> float:
    """RMS distance between two different images of (N, ...), N > 1: the square root of twice the variance."""
    return float((2 * images.double().var(dim=0).sum()).sqrt())


def ratio(generated: float, real: float) -> float:
    """Return `generated` over `real`, or 1 if both are 0."""
    return generated / real if real else float(generated == real)


# --- estimates with standard errors, for verdicts that chance cannot explain ------------------------------------------

SURE = 3.0  # standard errors; by chance about one in a thousand values, the worst of a long run, is this far off
COPY_QUANTILE = 0.05  # quantile of real nearest-neighbour distances below which images count as copies
SAME = 1e-5  # fraction of the mean distance below which vectors are equal up to rounding


@dataclass(frozen=True)
class Estimate:
    """An estimated value and its standard error over the choice of images and latents."""

    value: float
    error: float

    @property
    def low(self) -> float:
        """Lower confidence bound."""
        return self.value - SURE * self.error

    @property
    def high(self) -> float:
        """Upper confidence bound."""
        return self.value + SURE * self.error

    def over(self, other: Estimate) -> Estimate:
        """Divide by another estimate, with first-order error propagation that assumes independence."""
        quotient = self.value / other.value
        return Estimate(quotient, math.hypot(self.error, quotient * other.error) / abs(other.value))


def diversity_estimate(generated: Tensor, real: Tensor) -> Estimate | None:
    """Mean distance between generated images over that between real ones; None if all real images are identical.

    This and the following functions take features (N, dim) of equally many generated and real images.
    """
    found, expected = (jackknife_mean(pairwise(features)) for features in (generated, real))
    return found.over(expected) if expected.value > 0 else None


def distance_estimate(generated: Tensor, real: Tensor, *, num_groups: int = 10) -> Estimate | None:
    """Energy distance between generated and real features over the mean distance of real ones; 0 if they are alike.

    2 E|x - y| - E|x - x'| - E|y - y'| (Székely and Rizzo 2013), unbiased for any number of images; the error is a
    jackknife over groups of both. None if all real images are identical.
    """
    between = pairwise(torch.cat([real, generated]))
    group = torch.arange(len(real)) % num_groups, torch.arange(len(generated)) % num_groups
    values = [_energy(between, *(each != left_out for each in group)) for left_out in range(num_groups)]
    value = _energy(between, *(each >= 0 for each in group))
    if value is None or any(each is None for each in values):
        return None
    rest = torch.tensor([each for each in values if each is not None])
    return Estimate(value, float((rest.var(correction=0) * (num_groups - 1)).sqrt()))


def _energy(between: Tensor, real: Tensor, generated: Tensor) -> float | None:
    """Energy distance of the images selected by masks (N,) and (M,), with distances `between` (N + M, N + M)."""
    rows = torch.cat([real, torch.zeros_like(generated)]), torch.cat([torch.zeros_like(real), generated])
    within = [float(between[kept][:, kept].sum()) / (int(kept.sum()) * (int(kept.sum()) - 1)) for kept in rows]
    across = float(between[rows[0]][:, rows[1]].mean())
    return (2 * across - sum(within)) / within[0] if within[0] > 0 else None


def distinct_estimate(generated: Tensor, real: Tensor) -> Estimate | None:
    """Number of distinct generated images over that of distinct real ones; None if all real images are identical.

    Images count as copies if they are closer than the `COPY_QUANTILE` of the distances of real images to the nearest
    different one.
    """
    between = pairwise(real)
    nearest = between.masked_fill(between == 0, torch.inf).amin(dim=1)
    if not nearest.isfinite().all():
        return None
    reach = float(nearest.quantile(COPY_QUANTILE))
    return share(num_distinct(pairwise(generated), reach), max(num_distinct(between, reach), 1))


def precision_recall_estimates(generated: Tensor, real: Tensor) -> tuple[Estimate, Estimate]:
    """Improved precision and recall with k = 3; both depend on the number of images."""
    precision, recalled = precision_recall(real, generated, k=3)
    return share(round(precision * len(generated)), len(generated)), share(round(recalled * len(real)), len(real))


def pairwise(features: Tensor) -> Tensor:
    """Return Euclidean distances (N, N) in float64; exactly 0 for vectors that are equal up to rounding."""
    rows = features.double()
    rows = rows - rows.mean(dim=0)  # a large common offset would hide small distances
    between = torch.cdist(rows, rows).fill_diagonal_(0)
    return between.masked_fill_(between <= SAME * between.mean(), 0)


def jackknife_mean(between: Tensor) -> Estimate:
    """Mean distance between different images with a jackknife error over images; `between` (N, N), N > 2."""
    num = len(between)
    of_each = between.sum(dim=1) / (num - 1)
    mean = of_each.mean()
    # Without image i the mean is (N mean - 2 of_each_i) / (N - 2).
    moved = 2 * (mean - of_each) / (num - 2)
    return Estimate(float(mean), float(((num - 1) / num * moved.square().sum()).sqrt()))


def num_distinct(between: Tensor, reach: float) -> int:
    """Count the images that remain when each one closer than `reach` to an earlier remaining image is dropped."""
    left: list[int] = []
    for index, row in enumerate(between):
        if not left or float(row[left].min()) >= reach:
            left.append(index)
    return len(left)


def share(count: int, num: int) -> Estimate:
    """Share `count` / `num` with the error of Agresti and Coull (1998), which is not 0 at shares of 0 and 1.

    The error assumes num / 2 observations, which is right for images counted in pairs, such as copies.
    """
    observations = num / 2 + 4
    middle = (min(count, num) / 2 + 2) / observations
    return Estimate(count / num, math.sqrt(middle * (1 - middle) / observations))
