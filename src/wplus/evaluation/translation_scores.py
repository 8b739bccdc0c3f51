"""Scores of translations against the truth: pixel errors, perceptual distances, and whether factors match it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wplus.core.images import to_float
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import proportion_interval
from wplus.data.image_set import ImageSet
from wplus.inversion.report import image_scores
from wplus.inversion.result import Score
from wplus.losses import translation_faults as faults
from wplus.losses.image_pair import ImageDistance
from wplus.losses.pixel import L1, L2
from wplus.pretrained.attribute_classifier import AttributeClassifier
from wplus.pretrained.attributes import class_indices

_BATCH = 64
_SHARE = (
    "Share of the translations in which a classifier finds the true value of the factor, {}; on the truth itself it is "
)


@dataclass(frozen=True)
class Judges:
    """Distances and classifier that compare translations with the truth.

    Attributes:
        terms: image distances to report in addition to L1 and PSNR, such as a perceptual one, under any names.
        classifier: predicts the factors of images; None: factors are not evaluated.
    """

    terms: Mapping[str, ImageDistance] = field(default_factory=dict)
    classifier: AttributeClassifier | None = None


def image_columns(
    inputs: ImageSet, outputs: Tensor, truth: ImageSet | None, *, judges: Judges,
    way_back: Callable[[Tensor], Tensor | None],
) -> dict[str, Score]:  # fmt: skip
    """Column -> scores (N,) of translations, uint8 (N, C, R, R), of the corresponding inputs.

    `change` from the inputs; given the truth, its difference from the inputs (`asked`), L1, PSNR and the judges'
    distances; given a way back, the cycle error, without and with noise or JPEG compression in between.
    """
    parts: list[dict[str, Score]] = []
    for rows in torch.arange(len(outputs)).split(_BATCH):
        made, given = to_float(outputs[rows]), to_float(inputs.batch(rows)[0])
        columns = {"change": Score(faults.change(given, made), faults.CHANGE)}
        if truth is not None:
            terms, true = {"l1": L1(), "l2": L2(), **judges.terms}, to_float(truth.batch(rows)[0])
            columns |= {"asked": Score(faults.change(given, true), faults.ASKED), **image_scores(made, true, terms)}
        parts.append(columns | _cycle(given, made, way_back))
    return {
        name: Score(torch.cat([part[name].values.cpu() for part in parts]), parts[0][name].info) for name in parts[0]
    }


def _cycle(given: Tensor, made: Tensor, way_back: Callable[[Tensor], Tensor | None]) -> dict[str, Score]:
    between = {"cycle": (made, faults.CYCLE), "cycle_noise": (faults.noisy(made), faults.CYCLE_NOISE),
               "cycle_jpeg": (faults.jpeg(made), faults.CYCLE_JPEG)}  # fmt: skip
    found = {}
    for name, (images, info) in between.items():
        back = way_back(images)
        if back is not None:
            found[name] = Score(faults.change(given, back), info)
    return found


def factor_shares(
    inputs: ImageSet, outputs: Tensor, truth: ImageSet | None, *, judges: Judges
) -> Iterator[MetricResult]:
    """Yield, for each factor that truth and classifier both know, the share of translations that match the truth.

    They are named `changed_<factor>` if the inputs have another value of it, otherwise `kept_<factor>`, and have
    Wilson intervals. The protocol gives the same share for the true images, where errors are the classifier's alone.
    """
    classifier = judges.classifier
    if classifier is None or truth is None or not truth.attributes or outputs.shape[1] != classifier.net.img_channels:
        return
    device = next(classifier.parameters()).device
    found, ceiling = (
        torch.cat(
            [classifier.predicted(images(rows).to(device)).cpu() for rows in torch.arange(len(outputs)).split(256)]
        )
        for images in (lambda rows: outputs[rows], lambda rows: truth.batch(rows)[0])
    )
    for column, (factor, classes) in enumerate(classifier.classes.items()):
        if factor not in truth.attributes:
            continue
        true = class_indices(truth.attributes[factor].numpy().astype(str), classes)
        before = (inputs.attributes or {}).get(factor)
        is_changed = before is not None and bool((before != truth.attributes[factor]).all())
        share, on_truth = (float((each[:, column] == true).double().mean()) for each in (found, ceiling))
        what = "which differs from the input's" if is_changed else "which is the same as the input's if known"
        info = MetricInfo(meaning=f"{_SHARE.format(what)}{on_truth:.4g}.", direction="higher")
        protocol = {**{key: value for key, value in classifier.protocol.items() if key != "attributes"},
                    "num_images": len(outputs), "on_the_truth": on_truth, "interval": "95 %, Wilson's"}  # fmt: skip
        name = f"{'changed' if is_changed else 'kept'}_{factor}"
        yield MetricResult.of(info, name, share, protocol=protocol, interval=proportion_interval(share, len(outputs)))
