"""Fidelity and diversity of generated images, measured separately.

Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991) and density and coverage (Naeem et al. 2020,
arXiv:2002.09797). Each places a ball around every image in feature space, with the distance to its k-th nearest
neighbour in its own set (excluding itself) as radius, and tests which images of the other set fall into it. Distances
are compared in float64; NVlabs' code uses float16.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import percentile_interval, proportion_interval
from wplus.errors import UserError
from wplus.evaluation.context import EvalContext
from wplus.evaluation.feature_pass import FeaturePass, Request
from wplus.evaluation.names import VGG16, distribution_name
from wplus.evaluation.pairwise import InBalls, NeighbourSquares, Pairs, pairs_of
from wplus.evaluation.sampler import Sampling
from wplus.models.generator import NoiseMode
from wplus.pretrained.extractor import Extractor

PRECISION = MetricInfo(
    meaning="Fraction of the generated images that lie among the real ones: that look realistic; 1 is all.",
    direction="higher",
)
RECALL = MetricInfo(
    meaning="Fraction of the real images that lie among the generated ones: that the generator covers; 1 is all.",
    direction="higher",
)
DENSITY = MetricInfo(
    meaning="How many real images a generated one is close to, relative to what is expected; about 1 for equal "
    "distributions, more if generated images crowd in dense regions.",
    direction="higher",
)
COVERAGE = MetricInfo(
    meaning="Fraction of the real images with a generated one close by, so are covered by the generator; 1 is all.",
    direction="higher",
)
PRECISION_K, DENSITY_K = 3, 5  # as in the papers


def ask_precision_recall(pairs: Pairs, k: int) -> tuple[Request[InBalls], Request[InBalls]]:
    """Request how many balls around real images contain each generated image, and vice versa. Balls are closed, as in
    the authors' code."""
    of_real, of_generated = (side.ask(NeighbourSquares(k)) for side in (pairs.real, pairs.generated))
    return (pairs.cross.ask(InBalls(of_real, around="rows", is_closed=True)),
            pairs.cross.ask(InBalls(of_generated, around="cols", is_closed=True)))  # fmt: skip


def ask_density_coverage(pairs: Pairs, k: int) -> Request[InBalls]:
    """Request how many balls around real images contain each generated image, and which balls contain any. Balls are
    open, as in the authors' code: one of radius 0, around an image that occurs more than k times, is always empty."""
    return pairs.cross.ask(InBalls(pairs.real.ask(NeighbourSquares(k)), around="rows", is_closed=False))


def precision_recall(
    real: Tensor, generated: Tensor, *, k: int = PRECISION_K, device: torch.device | str = "cpu"
) -> tuple[float, float]:
    """For features (N, dim) and (M, dim), return the fraction of generated vectors that lie in a ball around a real
    one, and the fraction of real vectors that lie in a ball around a generated one."""
    precision, recall = ask_precision_recall(Pairs.of(real, generated, device), k)
    return mean(precision.value.counts > 0), mean(recall.value.counts > 0)


def density_coverage(
    real: Tensor, generated: Tensor, *, k: int = DENSITY_K, device: torch.device | str = "cpu"
) -> tuple[float, float]:
    """For features (N, dim) and (M, dim), return the mean number of real balls that a generated vector lies in, divided
    by k, and the fraction of real balls that contain a generated vector."""
    found = ask_density_coverage(Pairs.of(real, generated, device), k).value
    return mean(found.counts) / k, mean(found.met)


def mean(values: Tensor) -> float:
    """Mean of booleans or integers (N,)."""
    return float(values.double().mean())


def mean_count_interval(counts: np.ndarray, *, seed: int, num_resamples: int = 1000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of small integers (N,).

    The value counts of a resample are multinomial, so no resample has to be drawn image by image.
    """
    values, occurrences = np.unique(counts, return_counts=True)
    rng = np.random.default_rng(seed)
    resamples = rng.multinomial(len(counts), occurrences / len(counts), size=num_resamples)
    return percentile_interval(resamples @ values / len(counts))


# The metrics


def pr(context: EvalContext, *, extractor: Extractor, k: int = PRECISION_K, num_generated: int = 10_000,
       num_real: int | str | None = None, mirror: str = "none", truncation_psi: float = 1.0,
       truncation_cutoff: int | None = None, noise_mode: NoiseMode = "const") -> Iterator[MetricResult]:  # fmt: skip
    """Yield improved precision, then recall, with intervals over the images counted, taking the balls as given.

    Under the papers' protocol they are named pr50k3_full_precision and pr50k3_full_recall.

    Args:
        k: which nearest neighbour sets the radius of a ball.
        num_generated, num_real, mirror, ...: which images, as in `wplus.evaluation.frechet.fd`; values depend on the
            numbers of images, so compare only at equal numbers.
    """
    generated = context.generated(num_generated, Sampling(truncation_psi, truncation_cutoff, noise_mode))
    real, protocol = _real_images(context, extractor, k, generated, num=num_real, mirror=mirror)
    among_real, among_generated = ask_precision_recall(pairs_of(context, extractor, real, generated), k)

    def results() -> Iterator[MetricResult]:
        usual = k == PRECISION_K
        for part, info, balls, images in (("precision", PRECISION, among_real, generated),
                                          ("recall", RECALL, among_generated, real)):  # fmt: skip
            famous = f"pr50k3_full_{part}" if usual else f"{part}_{VGG16}_50000"
            name = distribution_name(f"{part}_{VGG16}", part, protocol, famous=famous, famous_extractor=VGG16)
            yield _proportion(info, name + f"_k{k}" * (not usual), balls.value.counts > 0, images, protocol)

    return results()


def dc(context: EvalContext, *, extractor: Extractor, k: int = DENSITY_K, num_generated: int = 10_000,
       num_real: int | str | None = None, mirror: str = "none", truncation_psi: float = 1.0,
       truncation_cutoff: int | None = None, noise_mode: NoiseMode = "const") -> Iterator[MetricResult]:  # fmt: skip
    """Yield density, then coverage, which are robust to single outliers; options as in `pr`."""
    generated = context.generated(num_generated, Sampling(truncation_psi, truncation_cutoff, noise_mode))
    real, protocol = _real_images(context, extractor, k, generated, num=num_real, mirror=mirror)
    balls = ask_density_coverage(pairs_of(context, extractor, real, generated), k)

    def results() -> Iterator[MetricResult]:
        name = distribution_name("", "", protocol, famous="", famous_extractor=None) + f"_k{k}" * (k != DENSITY_K)
        counts = balls.value.counts
        low, high = mean_count_interval(counts.numpy(), seed=context.seed)
        method = {"interval": "95 %, percentile bootstrap over generated images, 1000 resamples, balls as given"}
        yield MetricResult.of(DENSITY, f"density{name}", mean(counts) / k, protocol=protocol | method,
                              interval=(low / k, high / k))  # fmt: skip
        yield _proportion(COVERAGE, f"coverage{name}", balls.value.met, real, protocol)

    return results()


def _real_images(
    context: EvalContext, extractor: Extractor, k: int, generated: FeaturePass, *, num: int | str | None, mirror: str
) -> tuple[FeaturePass, dict[str, Any]]:
    """Return the pass over the real images and the protocol; UserError if either side is too small for k neighbours."""
    if not 1 <= k < generated.num:
        raise UserError(f"k must be from 1 to one less than the {generated.num} generated images, got {k}.")
    real = context.real_images(num=num, mirror=mirror)
    if real.num <= k:
        raise UserError(f"{real.num} real images have no neighbour {k}: at least {k + 1} are needed.")
    return real, extractor.protocol | real.protocol | generated.protocol | {"neighbour": k}


def _proportion(
    info: MetricInfo, name: str, inside: Tensor, images: FeaturePass, protocol: dict[str, Any]
) -> MetricResult:
    """Fraction of a pass's images that are inside; an image and its mirror image count once in the interval."""
    method = {"interval": "95 %, Wilson's score interval over the images that are counted, balls as given"}
    interval = proportion_interval(value := mean(inside), images.source.num)
    return MetricResult.of(info, name, value, protocol=protocol | method, interval=interval)
