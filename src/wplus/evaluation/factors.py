"""Which values of the data's factors a generator produces, and how often, for data with known factors such as the cats.

An attribute classifier predicts the factors of generated images. Its errors are estimated on real images with known
factors that it was not trained on, as the confusion matrix C of a factor: C[i, j] is the share of images of value i
that it classifies as j. All numbers here are corrected or tested using that matrix.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import chi2 as chi2_tail
from torch import Tensor

from wplus.core.images import to_float
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import jackknife_interval, percentile_interval, proportion_interval
from wplus.data import ImageSet
from wplus.errors import UserError, check_number
from wplus.evaluation.context import EvalContext, check_groups, split_of
from wplus.evaluation.factor_counts import Factor, factor_of, num_pairs
from wplus.evaluation.feature_pass import FeatureRows
from wplus.evaluation.names import distribution_name
from wplus.evaluation.sampler import Sampling
from wplus.models.generator import NoiseMode
from wplus.pretrained.attribute_classifier import AttributeClassifier, chosen_factors
from wplus.pretrained.attributes import class_indices, known_factors
from wplus.pretrained.extractor import Extractor

NUM_RESAMPLES = 1000
COPY_RATIO = 1 / 3  # of the distances to the nearest and the second nearest training image (Yoon et al. 2023)
THUMBNAIL_PX = 16
BATCH = 256

PRESENT = MetricInfo(
    meaning="How many values of the factor occur in the generated images, significantly more often than misclassified "
    "images of other values explain; ideally as many as in the data.",
    unit="values", direction="higher",
)  # fmt: skip
CHI2 = MetricInfo(
    meaning="Pearson's chi squared between the frequencies of the factor's values and those in the data, over the "
    "number of images; 0 for equal frequencies, K / m - 1 if only m of K equally frequent values are left.",
    direction="lower",
)
PAIRS = MetricInfo(
    meaning="Share of the data's pairs of values of two factors that occur in the generated images, significantly more "
    "often than misclassified images explain; ideally 1.", direction="higher",
)  # fmt: skip
MEMORISED = MetricInfo(
    meaning="Share of the generated images that copy a real one: the nearest is closer than a third of the distance to "
    "the second nearest, in pixels; about 0 for held-out real images.", direction="lower",
)  # fmt: skip


class FactorNames(Extractor):
    """A classifier as an extractor whose features are the indices of the most probable values: (N, factors)."""

    def __init__(self, classifier: AttributeClassifier, factors: Sequence[str]) -> None:
        super().__init__(weights=classifier.name, sha256="", preparation={})
        self.classifier, self.name, self.dim = classifier, classifier.name, len(factors)
        self.columns = [list(classifier.classes).index(factor) for factor in factors]
        known = {key: value for key, value in classifier.protocol.items() if key != "attributes"}
        self._protocol = known | {"factors": list(factors)}

    @property
    def protocol(self) -> dict[str, Any]:
        """The classifier's protocol, and the factors."""
        return self._protocol

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, factors) float32."""
        return self.classifier.predicted(images)[:, self.columns].float()


class Thumbnails(Extractor):
    """The pixels themselves, averaged down to at most 16 px: uint8 images (N, C, H, W) -> (N, C r r) in [-1, 1]."""

    name, layer = "pixels", "the image"

    def __init__(self, channels: int, resolution: int) -> None:
        self.px = min(THUMBNAIL_PX, resolution)
        super().__init__(weights="none", sha256="", preparation={"extractor_input": f"averaged down to {self.px} px"})
        self.dim = channels * self.px**2

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) -> (N, C r r) float32 in [-1, 1]."""
        return F.adaptive_avg_pool2d(to_float(images), self.px).flatten(1)


# --- copies ---------------------------------------------------------------------------------------------------------


def copies(images: Tensor, real: Sequence[Tensor]) -> Tensor:
    """Return which of the thumbnails (N, D) copy a real one, given in batches (B, D): (N,) bool.

    Criterion of Yoon et al. 2023 ("Diffusion probabilistic models generalize when they fail to memorize"): the distance
    to the nearest is less than a third of the distance to the second nearest.
    """
    nearest = torch.full((len(images), 2), torch.inf)
    for part in real:
        both = torch.cat([nearest, torch.cdist(images, part.to(images))], dim=1)
        nearest = both.topk(2, dim=1, largest=False).values
    return nearest[:, 0] < COPY_RATIO * nearest[:, 1]


# --- the metric -----------------------------------------------------------------------------------------------------


def factors(
    context: EvalContext, *, classifier: AttributeClassifier, factors: Sequence[str] | None = None,
    num_generated: int = 10_000, num_compared: int = 1000, num_groups: int = 10, truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None, noise_mode: NoiseMode = "const",
) -> Iterator[MetricResult]:  # fmt: skip
    """Yield for each factor how many values occur and chi squared, then the share of covered pairs, then of copies.

    Protocols contain the classifier's accuracy, the corrected histogram and the missing values.

    Args:
        classifier: classifier of the data's factors, see `wplus classifier`.
        factors: factors to evaluate; None: all that the classifier knows.
        num_generated: rare values only show up in large samples; compare only at equal numbers.
        num_compared: generated images that are compared with every real one to find copies; 0: none.
        num_groups: groups for the jackknife interval of chi squared and pairs; 0: no interval.
        truncation_psi, truncation_cutoff, noise_mode: how the generator is sampled.
    """
    real = context.real
    if real is None:
        raise UserError("Factors are compared with those of real images, and there are none.")
    names = chosen_factors(classifier, factors)
    check_number("num_compared", num_compared, lowest=0, highest=num_generated, whole=True)
    images = context.generated(num_generated, Sampling(truncation_psi, truncation_cutoff, noise_mode))
    check_groups(num_groups, images.num)
    net = FactorNames(classifier, names)
    thumbnails = Thumbnails(real.img_channels, real.resolution)
    ask_names, ask_pixels = images.ask(net, FeatureRows()), None
    if num_compared:
        ask_pixels = images.ask(thumbnails, FeatureRows())

    def results() -> Iterator[MetricResult]:
        known = context.held_out if context.held_out is not None and _has_images(context.held_out) else real
        told = tell(real, known, net.to(context.device), names, context.device)
        named = ask_names.value.rows.numpy().astype(np.int64)
        shared = net.protocol | images.protocol | {
            "data": real.fingerprint, "num_real": len(real), "split": split_of(real),
            "known": known.fingerprint, "num_known": len(known),
        }  # fmt: skip

        def of(what: str) -> str:
            return distribution_name("", what, {**images.protocol, "extractor": classifier.name},
                                     famous="", famous_extractor=None)  # fmt: skip

        for column, factor in enumerate(told):
            counts = np.bincount(named[:, column], minlength=len(factor.values))
            yield from _of_factor(factor, counts, named[:, column], of, shared, num_groups, context.seed)
        if len(told) > 1:
            yield _pairs(named, told, of("factors_pairs"), shared, num_groups)
        if ask_pixels is not None:
            rows = ask_pixels.value.rows[:num_compared]
            yield _memorised(thumbnails, rows, real, known, of_images=images.protocol)

    return results()


def tell(
    real: ImageSet, known: ImageSet, net: FactorNames, names: Sequence[str], device: torch.device | str
) -> list[Factor]:
    """Estimate the factors from the real images and the net's predictions on the known ones; UserError if a factor is
    unknown."""
    classes = {name: net.classifier.classes[name] for name in names}
    wanted = None if real.attributes is None else names
    truth, of_known = (known_factors(images, wanted) for images in (real, known))
    with torch.no_grad():
        parts = torch.arange(len(known)).split(BATCH)
        named = torch.cat([net(known.batch(part)[0].to(device)).cpu() for part in parts]).long().numpy()
    found = []
    for column, (name, values) in enumerate(classes.items()):
        if name not in truth:
            raise UserError(f"The images have no attribute '{name}'; they have {', '.join(truth)}.")
        theirs = [class_indices(each[name], values).numpy() for each in (truth, of_known)]
        if unknown := sorted(set(truth[name].tolist()) - set(values)):
            raise UserError(f"The classifier does not know {name}={unknown[0]}; it knows {', '.join(values)}.")
        found.append(factor_of(name, values, theirs[0], theirs[1], named[:, column]))
    return found


def _has_images(images: ImageSet) -> bool:
    """Whether there are any images; also False if the data has no held-out split."""
    try:
        return len(images) > 0
    except UserError:
        return False


def _of_factor(
    factor: Factor, counts: np.ndarray, named: np.ndarray, of: Callable[[str], str], shared: dict[str, Any],
    num_groups: int, seed: int,
) -> Iterator[MetricResult]:  # fmt: skip
    num, size = len(named), len(counts)
    present = factor.present(counts)
    protocol = shared | {
        "accuracy": factor.accuracy, "num_values": int((factor.shares > 0).sum()),
        "histogram": dict(zip(factor.values, factor.corrected(counts).round(5).tolist(), strict=True)),
        "missing": [name for name, share, is_there in zip(factor.values, factor.shares, present, strict=True)
                    if share > 0 and not is_there],
    }  # fmt: skip
    again = np.random.default_rng(seed).multinomial(num, counts / num, size=NUM_RESAMPLES)
    low, high = percentile_interval(factor.present(again).sum(axis=1))
    how = {"interval": f"95 %, percentile bootstrap over images, {NUM_RESAMPLES} resamples"}
    value = float(present.sum())
    yield MetricResult.of(PRESENT, of(f"factors_{factor.name}"), value, protocol=protocol | how,
                          interval=(min(low, value), max(high, value)))  # fmt: skip
    value, interval = factor.chi2(counts), None
    test: dict[str, Any] = {"chi2": num * value, "degrees": size - 1, "p": float(chi2_tail.sf(num * value, size - 1)),
                            "test": "the data's shares and what is misnamed taken as known exactly"}  # fmt: skip
    if num_groups:
        groups = [np.bincount(named[group::num_groups], minlength=size) for group in range(num_groups)]
        interval = jackknife_interval(value, [factor.chi2(counts - group) for group in groups], lowest=0.0)
        test["interval"] = f"95 %, jackknife over {num_groups} groups of images"
    yield MetricResult.of(CHI2, of(f"factors_{factor.name}_chi2"), value, protocol=protocol | test, interval=interval)


def _pairs(
    named: np.ndarray, told: Sequence[Factor], name: str, shared: dict[str, Any], num_groups: int
) -> MetricResult:
    possible = sum(int((a.shares > 0).sum() * (b.shares > 0).sum()) for a, b in itertools.combinations(told, 2))
    protocol = shared | {"num_pairs": possible, "accuracy": {factor.name: factor.accuracy for factor in told}}
    value, interval = num_pairs(named, told) / max(possible, 1), None
    if num_groups:
        groups = np.arange(len(named)) % num_groups
        rest = [num_pairs(named[groups != group], told) / max(possible, 1) for group in range(num_groups)]
        interval = jackknife_interval(value, rest, lowest=0.0, highest=1.0)
        protocol["interval"] = f"95 %, jackknife over {num_groups} groups"
    return MetricResult.of(PAIRS, name, value, protocol=protocol, interval=interval)


def _memorised(
    net: Thumbnails, rows: Tensor, real: ImageSet, known: ImageSet, *, of_images: dict[str, Any]
) -> MetricResult:
    """Share of copies among generated images and, for reference in the protocol, among as many held-out ones."""
    parts = [net(real.batch(part)[0]) for part in torch.arange(len(real)).split(1024)]
    value = float(copies(rows, parts).double().mean())
    protocol = of_images | {
        "extractor": "pixels", "px": net.px, "ratio": "1/3 (nearest over second nearest)", "num_compared": len(rows),
        "data": real.fingerprint, "num_real": len(real), "split": split_of(real),
        "interval": "95 %, Wilson's score interval over images",
    }  # fmt: skip
    if known is not real:
        others = net(known.batch(torch.arange(min(len(known), len(rows))))[0])
        protocol["of_held_out"] = float(copies(others, parts).double().mean())
    name = distribution_name(
        "", "memorised", {**of_images, "extractor": f"{net.px}px"}, famous="", famous_extractor=None
    )
    return MetricResult.of(MEMORISED, name, value, protocol=protocol, interval=proportion_interval(value, len(rows)))
