"""Fréchet distance within classes: are the generated images of each class like the real ones of that class?

The distance over all images does not detect a generator that confuses classes; the mean over classes does. With few
images per class all distances are larger (see `fd`), so compare values only at equal numbers.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import jackknife_interval
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.evaluation.context import EvalContext, by_digest, check_groups
from wplus.evaluation.feature_pass import FeatureRows
from wplus.evaluation.frechet import FeatureStatistics, FrechetReference
from wplus.evaluation.labelled import check_conditional, classes_of
from wplus.evaluation.names import distribution_name
from wplus.evaluation.sampler import Sampling
from wplus.models.generator import NoiseMode
from wplus.pretrained.extractor import Extractor

MEAN = MetricInfo(
    meaning="How far the generated images of a class are from the real ones of that class, by mean and covariance of "
    "features, averaged over the classes; 0 is ideal.", direction="lower",
)  # fmt: skip
WORST = MetricInfo(
    meaning="How far the generated images of the worst class are from the real ones of that class, by mean and "
    "covariance of features; `class` of the protocol is its name.", direction="lower",
)  # fmt: skip


def fd_per_class(
    context: EvalContext, *, extractor: Extractor, num_generated: int = 10_000, num_groups: int = 5,
    truncation_psi: float = 1.0, truncation_cutoff: int | None = None, noise_mode: NoiseMode = "const",
) -> Iterator[MetricResult]:  # fmt: skip
    """Yield the mean over classes, fd_per_class_<extractor>, and fd_worst_class_<extractor>; protocols list them all.

    Args:
        extractor: its name is part of the result names.
        num_generated: total over all classes, each as frequent as in the data.
        num_groups: groups of generated images per class for the jackknife interval (real images taken as given);
            0: no interval.
        truncation_psi, truncation_cutoff, noise_mode: how the generator is sampled.
    """
    check_conditional(context)
    generated = context.generated(num_generated, Sampling(truncation_psi, truncation_cutoff, noise_mode), own=True)
    check_groups(num_groups, generated.num)
    real = context.real_images()
    of_real, of_generated = real.ask(extractor, FeatureRows()), generated.ask(extractor, FeatureRows())

    def results() -> Iterator[MetricResult]:
        assert context.real is not None
        order, _ = by_digest(context.real.digests, len(context.real))
        ours = classes_of(context.labels(range(num_generated)))
        pairs = _by_class(context.real, (of_real.value.rows, classes_of(context.real.labels)[order]),
                          (of_generated.value.rows, ours), max(num_groups, 1))  # fmt: skip
        found = {name: distances(a, b, num_groups) for name, (a, b) in pairs.items()}
        protocol = extractor.protocol | real.protocol | generated.protocol | {
            "classes": {name: round(value, 4) for name, (value, _) in found.items()},
            "num_per_class": {name: [len(a), len(b)] for name, (a, b) in pairs.items()},
        }  # fmt: skip
        if num_groups:
            protocol["interval"] = f"95 %, jackknife over {num_groups} groups of generated images of each class"
        values, without = torch.tensor([value for value, _ in found.values()]), [each for _, each in found.values()]
        of_mean = [sum(group) / len(group) for group in zip(*without, strict=True)]
        name = distribution_name("", "fd_per_class", protocol, famous="", famous_extractor=None)
        yield _result(MEAN, name, float(values.mean()), of_mean, protocol)
        worst = list(found)[int(values.argmax())]
        name = distribution_name("", "fd_worst_class", protocol, famous="", famous_extractor=None)
        yield _result(WORST, name, *found[worst], protocol | {"class": worst})

    return results()


def distances(real: Tensor, generated: Tensor, num_groups: int) -> tuple[float, list[float]]:
    """Distance between features (N, D) and (M, D), and the distances with each group of generated ones left out."""
    reference = FrechetReference(FeatureStatistics.of(real), rows=real if len(real) < real.shape[1] else None)
    rest = [generated[torch.arange(len(generated)) % num_groups != group] for group in range(num_groups)]
    value, *without = (reference.distance(FeatureStatistics.of(rows)) for rows in [generated, *rest])
    return value, without


def _by_class(
    images: ImageSet, real: tuple[Tensor, Tensor], generated: tuple[Tensor, Tensor], num_groups: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Class -> features of its real and generated images; UserError if a class has too few of either."""
    names = images.label_names or [str(index) for index in range(images.c_dim)]
    found = {}
    for number, name in enumerate(names):
        a, b = (rows[classes == number] for rows, classes in (real, generated))
        if not len(a) and not len(b):
            continue
        if len(a) < 2 or len(b) < 2 + num_groups:
            raise UserError(
                f"Class {name} has {len(a)} real and {len(b)} generated images, and a distance within it needs "
                f"at least 2 and {2 + num_groups}: raise num_generated."
            )
        found[name] = (a, b)
    return found


def _result(info: MetricInfo, name: str, value: float, without: list[float], protocol: dict[str, Any]) -> MetricResult:
    interval = jackknife_interval(value, without, lowest=0.0) if without else None
    return MetricResult.of(info, name, value, protocol=protocol, interval=interval)
