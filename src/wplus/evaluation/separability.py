"""Linear separability by the StyleGAN definition (Karras et al. 2019, arXiv:1812.04948, section 4.2).

It follows NVlabs' `linear_separability.py`: a classifier labels images generated with fresh noise and no truncation,
box-filtered to 256 px; for each binary attribute the most confident half is kept; a linear support vector machine is
fitted to and evaluated on their latents; H(Y|X) in bits is the uncertainty about the classifier's label Y given the
machine's prediction X. The score is 2^(sum of H(Y|X) over attributes): 1 is perfect, 2^(sum of H(Y)) is chance level.

The classifier is part of the name, because the published numbers require 40 classifiers of CelebA attributes. Unlike
the original, which counts an attribute whose fit fails as perfect, this raises an error or leaves it out and says so.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.core import distributed
from wplus.core.batching import MIN_MADE, at_least
from wplus.core.files import write_json
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import jackknife_interval
from wplus.errors import UserError, check_choice, check_number
from wplus.evaluation import sampler
from wplus.evaluation.context import EvalContext, check_groups
from wplus.evaluation.feature_pass import FeatureRows
from wplus.evaluation.ppl import MAX_PX, box_filtered
from wplus.latents.space import space_of
from wplus.models.generator import NoiseMode
from wplus.pretrained.attribute_classifier import AttributeClassifier
from wplus.pretrained.extractor import Extractor

MEANING = (
    "How entangled attributes are in {}: 2 to the number of bits that hyperplanes leave unknown; 1 is perfectly "
    "separable."
)
COLUMNS = ("attribute", "share", "entropy_bits", "conditional_entropy_bits", "accuracy")


class BoxFiltered(Extractor):
    """A classifier preceded by the definition's box filter, which averages larger images down to 256 px."""

    def __init__(self, classifier: AttributeClassifier) -> None:
        super().__init__(weights=classifier.name, sha256="", preparation={})
        self.classifier, self.name, self.dim = classifier, classifier.name, len(classifier.attributes)

    @property
    def protocol(self) -> dict[str, Any]:
        """The classifier's protocol and the filter's."""
        return {**self.classifier.protocol, "max_px": MAX_PX, "downsampling": "box, rounded to uint8"}

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 (N, C, H, W) -> logits (N, attributes)."""
        if images.shape[2] >= 2 * MAX_PX:
            images = box_filtered(images.float()).round().to(torch.uint8)
        return self.classifier(images)


def linear_separability(context: EvalContext, *, classifier: AttributeClassifier, space: str, num_samples: int = 20_000,
                        rare: str = "leave_out", min_per_class: int = 10, regularisation: float = 1.0,
                        max_iterations: int = 10_000, num_groups: int = 20,
                        noise_mode: NoiseMode = "random") -> Iterator[MetricResult]:  # fmt: skip
    """Yield `ls_<space>_<classifier>`: how well hyperplanes separate the attributes a classifier finds in the images.

    The table of attributes goes to the tracker and the output folder.

    Args:
        space: "z", or "w", the style of the last layer.
        num_samples: number of images, half of which are kept for each attribute (the paper uses 200,000).
        rare: handling of an attribute that fewer than `min_per_class` of the kept images have, or lack: "refuse"
            stops, "leave_out" continues without it and records it in the protocol and the table; the sum then has
            fewer terms, so compare generators only at an equal `num_attributes`.
        regularisation, max_iterations: options of the support vector machine; it is an error if it does not converge.
        num_groups: groups of images for the interval (jackknife in bits, boundaries and halves as given); 0: none.
        noise_mode: "random" is the definition; "const" shares the pass with metrics that use the stored noise.
    """
    check_choice("space", space, ("z", "w"))
    check_choice("rare", rare, ("refuse", "leave_out"))
    check_number("min_per_class", min_per_class, lowest=1, whole=True)
    check_groups(num_groups, num_samples)
    dim = context.generator.z_dim if space == "z" else context.generator.w_dim
    if num_samples // 2 <= dim + 1:  # points in general position: the score is 1 for any labels
        kept = f"num_samples={num_samples} keeps {num_samples // 2} images of each attribute"
        raise UserError(f"{kept}, and a boundary in {dim} dimensions separates any {dim + 1} of them: take more "
                        f"than {2 * dim + 3}, better many times that.")  # fmt: skip
    net = BoxFiltered(classifier)
    images = context.generated(num_samples, sampler.Sampling(noise_mode=noise_mode), own=True)
    request = images.ask(net, FeatureRows())
    machine: dict[str, Any] = {"regularisation": regularisation, "max_iterations": max_iterations}

    def results() -> Iterator[MetricResult]:
        logits = dict(zip(classifier.attributes, request.value.rows.numpy().T, strict=True))
        kept = {name: surest_half(column) for name, column in logits.items()}
        labels = {name: logits[name][rows] > 0 for name, rows in kept.items()}
        left_out = _left_out(labels, rare, min_per_class)
        measured = [name for name in labels if name not in left_out]
        codes = latents(context, num_samples, space)
        counts = _joint_counts(context, codes, {each: kept[each] for each in measured}, labels, num_groups, machine,
                               title=f"Separating {space} (attributes)")  # fmt: skip
        name = f"ls_{space}_{classifier.name}"
        if distributed.is_first():
            _show(context, name, measured, counts.sum(axis=1), left_out)
        protocol = net.protocol | images.protocol | machine
        protocol |= {"space": space, "num_kept": num_samples // 2, "num_attributes": len(measured),
                     "left_out": left_out}  # fmt: skip
        yield _score(name, counts, protocol, num_groups)

    return results()


def _joint_counts(
    context: EvalContext, codes: np.ndarray, kept: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray],
    num_groups: int, machine: Mapping[str, Any], *, title: str,
) -> np.ndarray:  # fmt: skip
    """Joint counts of predictions and labels of the kept images: (attributes, groups of images, 2, 2)."""
    names, ours = list(kept), distributed.share(range(len(kept)))
    counts = np.zeros((len(ours), max(num_groups, 1), 2, 2))
    progress = context.progress(ours, title, total=len(ours))
    for row, name in zip(counts, (names[index] for index in progress), strict=True):
        predicted = separate(codes[kept[name]], labels[name], name=name, seed=context.seed, **machine)
        np.add.at(row, (kept[name] % len(row), predicted.astype(int), labels[name].astype(int)), 1)
    return distributed.gathered(torch.from_numpy(counts), torch.tensor(ours, dtype=torch.int64)).numpy()


def _score(name: str, counts: np.ndarray, protocol: dict[str, Any], num_groups: int) -> MetricResult:
    """2 to the number of bits left unknown by the predictions, from counts (attributes, groups, 2, 2)."""
    bits = float(conditional_entropy(counts.sum(axis=1)).sum())
    chance = float(entropy(counts.sum(axis=(1, 2))).sum())
    protocol |= {"bits": bits, "score_of_a_guess": 2**chance}
    interval = None
    if num_groups:
        protocol["interval"] = f"95 %, jackknife over {num_groups} groups of images, boundaries as they are"
        rest = conditional_entropy(counts.sum(axis=1, keepdims=True) - counts).sum(axis=0)
        low, high = jackknife_interval(bits, rest.tolist(), lowest=0.0)
        interval = 2**low, 2**high
    info = MetricInfo(meaning=MEANING.format(protocol["space"]), direction="lower")
    return MetricResult.of(info, name, 2**bits, protocol=protocol, interval=interval)


def _left_out(labels: Mapping[str, np.ndarray], rare: str, min_per_class: int) -> list[str]:
    """Attributes that too few of the kept images have or lack; UserError if `rare` is "refuse" or none remains."""
    names = [name for name, column in labels.items() if min(column.sum(), (~column).sum()) < min_per_class]
    if names:
        some = f"{len(names)} of {len(labels)} attributes ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        if rare == "refuse" or len(names) == len(labels):
            raise UserError(
                f"For {some}, fewer than {min_per_class} of the kept images are on one side, so no boundary can be "
                "found: take more samples, or rare=leave_out."
            )
        warnings.warn(f"{some} are left out: nearly all kept images are on one side.", stacklevel=3)
    return names


@torch.no_grad()
def latents(context: EvalContext, num: int, space: str) -> np.ndarray:
    """Latents (num, dim) float64 of the context's generated images: z, the last layer's style in w, and the flattened
    latent in any other space."""
    found = space_of(space, context.generator)

    def of_batch(indices: Sequence[int]) -> Tensor:
        z = sampler.normal(context.seed, sampler.LATENT, indices, context.generator.z_dim)
        if found.is_before_mapping:
            return found.from_vectors(z, context.generator).flatten(1)
        labels = context.labels(indices)
        labels = None if labels is None else at_least(MIN_MADE, labels).to(context.device)
        ws = context.generator.mapping(at_least(MIN_MADE, z).to(context.device), labels)
        of_all = ws[:, -1] if space == "w" else found.from_ws(ws, context.generator).flatten(1)
        return of_all[: len(z)].cpu()

    none = torch.empty(0, math.prod(found.shape(context.generator)))
    return distributed.in_shares(sampler.index_batches(num, context.batch_size), of_batch, none).double().numpy()


def surest_half(logits: np.ndarray) -> np.ndarray:
    """Logits (N,) of one attribute -> sorted indices (N // 2,) of the most confidently classified images."""
    return np.sort(np.argsort(-np.abs(logits), kind="stable")[: len(logits) // 2])


def separate(
    codes: np.ndarray, labels: np.ndarray, *, name: str, seed: int, regularisation: float, max_iterations: int
) -> np.ndarray:
    """Fit a linear support vector machine to codes (N, dim) and labels (N,) and return its predictions, (N,) bool.

    LinearSVC as in the original; with more codes than dimensions, the primal is solved, which takes fewer steps.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC  # slow to import, needed here only

    machine = LinearSVC(C=regularisation, dual="auto", max_iter=max_iterations, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return machine.fit(codes, labels).predict(codes)
        except ConvergenceWarning:
            raise UserError(
                f"The boundary of '{name}' did not converge within max_iterations={max_iterations}: allow more."
            ) from None


def entropy(counts: np.ndarray) -> np.ndarray:
    """Entropy (...) in bits of the distributions given by counts (..., K)."""
    p = counts / counts.sum(axis=-1, keepdims=True)
    return -np.where(p > 0, p * np.log2(np.where(p > 0, p, 1)), 0).sum(axis=-1)


def conditional_entropy(counts: np.ndarray) -> np.ndarray:
    """H(Y|X) in bits of joint counts (..., X, Y): H(X, Y) - H(X)."""
    joint = counts.reshape(*counts.shape[:-2], -1)
    return np.maximum(entropy(joint) - entropy(counts.sum(axis=-1)), 0)


def _show(
    context: EvalContext, name: str, attributes: Sequence[str], counts: np.ndarray, left_out: Sequence[str]
) -> None:
    """Log a row per attribute: the share of kept images that have it, H(Y), H(Y|X), and the machine's accuracy."""
    shares = counts[:, :, 1].sum(axis=1) / counts.sum(axis=(1, 2))
    right = np.trace(counts, axis1=1, axis2=2) / counts.sum(axis=(1, 2))
    columns = [shares, entropy(counts.sum(axis=1)), conditional_entropy(counts), right]
    rows = [[attribute, *map(float, row)] for attribute, *row in zip(attributes, *columns, strict=True)]
    context.tracker.table(f"evaluate/{name}", list(COLUMNS), rows)
    if context.output_dir is not None:
        table = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        write_json(context.output_dir / f"{name}.json", {"attributes": table, "left_out": list(left_out)})
