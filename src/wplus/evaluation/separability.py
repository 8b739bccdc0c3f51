"""Linear separability by the StyleGAN definition (Karras et al. 2019, arXiv:1812.04948, section 4.2).

Held to NVlabs' `linear_separability.py`: a classifier judges images with fresh noise and no truncation, box-filtered to
256 px; for each binary attribute the half of which it is surest is kept; a linear support vector machine is fitted to
their latents and evaluated on them; H(Y|X) in bits is what its answer X leaves unknown of the classifier's answer Y.
The score is 2^(sum of H(Y|X) over attributes): 1 is perfect, 2^(sum of H(Y)) is a space that knows nothing.

Two differences. The classifier is part of the name, `ls_<space>_<classifier>`: the published numbers need 40
classifiers of CelebA's attributes. And the original counts an attribute whose machine fails as perfect; here it is an
error, or is left out and named.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wplus.core.batching import MIN_MADE, at_least
from wplus.core.distributed import is_first
from wplus.core.files import write_json
from wplus.core.metric_result import MetricResult
from wplus.errors import UserError
from wplus.evaluation import sampler
from wplus.evaluation.bench import EvalContext
from wplus.evaluation.passes import Accumulated, FeaturePass, FeatureRows, Sampling
from wplus.evaluation.ppl import MAX_PX, box_filtered
from wplus.evaluation.statistics import jackknife_interval

MEANING = (
    "How mixed up attributes are in {space}: 2 to the bits that flat boundaries leave unknown of them; 1 is perfectly "
    "separable, lower is better."
)
COLUMNS = ("attribute", "share", "entropy_bits", "conditional_entropy_bits", "accuracy")


class BoxFiltered(nn.Module):
    """A classifier behind the box filter of the definition: larger images are averaged down to 256 px."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier, self.name, self.dim = classifier, classifier.name, len(classifier.attributes)

    @property
    def protocol(self) -> dict[str, Any]:
        """The classifier's, and the filter."""
        return {**self.classifier.protocol, "max_px": MAX_PX, "downsampling": "box, rounded to uint8"}

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 (N, C, H, W) -> logits (N, attributes)."""
        if images.shape[2] >= 2 * MAX_PX:
            images = box_filtered(images.float()).round().to(torch.uint8)
        return self.classifier(images)


class LinearSeparability:
    """Metric: how far flat boundaries in a latent space separate what a classifier sees in the images.

    Args:
        classifier: see `wplus.pretrained.attribute_classifier`; its name is part of the result's.
        space: "z", or "w": the style of the last layer.
        num_samples: images, of which half is kept for each attribute (the paper has 200,000).
        rare: what becomes of an attribute that fewer than `min_per_class` of the kept images have, or lack: "refuse"
            stops, "leave_out" goes on without it and says so in the protocol and the table. No machine can be fitted to
            one class; the original's score counts such an attribute as perfectly separable.
        regularisation, max_iterations: of the support vector machine; scikit-learn's C. A machine that has not
            converged by then is an error.
        num_groups: of images, for the interval (jackknife in bits, boundaries and halves taken as given); 0: none.
        noise_mode: "random" is the definition; "const" shares the pass of metrics that keep the stored noise.
    """

    def __init__(
        self,
        *,
        classifier: Any,
        space: str,
        num_samples: int = 200_000,
        rare: str = "refuse",
        min_per_class: int = 10,
        regularisation: float = 1.0,
        max_iterations: int = 10_000,
        num_groups: int = 20,
        noise_mode: str = "random",
    ) -> None:
        _check(space=space, rare=rare, num_samples=num_samples, num_groups=num_groups, min_per_class=min_per_class)
        self.classifier, self.space, self.num_samples = BoxFiltered(classifier), space, num_samples
        self.rare, self.min_per_class, self.num_groups = rare, min_per_class, num_groups
        self.machine = {"regularisation": regularisation, "max_iterations": max_iterations}
        self.sampling = Sampling(noise_mode=noise_mode)

    def plan(self, bench: EvalContext) -> None:
        """Ask for the classifier's logits of all images."""
        _check_num(self.num_samples, _dim(bench, self.space))
        self._request(bench)

    def __call__(self, bench: EvalContext) -> Iterator[MetricResult]:
        """Yield `ls_<space>_<classifier>`; the table of attributes goes to the tracker and the output folder."""
        images, request = self._request(bench)
        logits = request.value.rows.numpy()
        counts, left_out = self._counts(bench, logits, latents(bench, self.num_samples, self.space))
        name = f"ls_{self.space}_{self.classifier.name}"
        measured = [each for each in self.classifier.classifier.attributes if each not in left_out]
        _show(bench, name, measured, counts.sum(axis=1), left_out)
        bits = float(conditional_entropy(counts.sum(axis=1)).sum())
        chance = float(entropy(counts.sum(axis=(1, 2))).sum())
        protocol = self.classifier.protocol | images.protocol | self.machine
        protocol |= {"space": self.space, "num_kept": self.num_samples // 2, "num_attributes": len(measured),
                     "left_out": left_out, "bits": bits, "score_of_a_guess": 2**chance}  # fmt: skip
        interval = None
        if self.num_groups:
            interval = _interval(bits, counts)
            protocol["interval"] = f"95 %, jackknife over {self.num_groups} groups of images, boundaries as they are"
        meaning = MEANING.format(space=self.space)
        yield MetricResult(name, 2**bits, protocol, interval, meaning=meaning)

    def _request(self, bench: EvalContext) -> tuple[FeaturePass, Accumulated]:
        images = bench.generated(self.num_samples, self.sampling)
        return images, images.collect(self.classifier, FeatureRows())

    def _counts(self, bench: EvalContext, logits: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Joint counts (attributes, groups, prediction, label) of those measured, and the names of those left out."""
        names = self.classifier.classifier.attributes
        kept = [surest_half(logits[:, column]) for column in range(len(names))]
        left_out = [name for name, rows, column in zip(names, kept, logits.T, strict=True)
                    if self._is_rare(column[rows] > 0)]  # fmt: skip
        self._check_rare(left_out, len(names))
        columns = [column for column, name in enumerate(names) if name not in left_out]
        ours, counts = bench.share(columns), []
        for column in bench.progress(ours, f"Separating {self.space} (attributes)", total=len(ours)):
            rows, labels = kept[column], logits[kept[column], column] > 0
            predicted = separate(codes[rows], labels, name=names[column], seed=bench.seed, **self.machine)
            counts.append(joint_counts(predicted, labels, rows % max(self.num_groups, 1), max(self.num_groups, 1)))
        shape = (len(counts), max(self.num_groups, 1), 2, 2)
        rows = torch.from_numpy(np.array(counts, dtype=np.float64).reshape(shape))
        return bench.gathered(rows, torch.tensor(ours, dtype=torch.int64)).numpy(), left_out

    def _is_rare(self, labels: np.ndarray) -> bool:
        return min(labels.sum(), (~labels).sum()) < self.min_per_class

    def _check_rare(self, names: Sequence[str], num: int) -> None:
        if not names:
            return
        what = f"{len(names)} of {num} attributes ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        if self.rare == "refuse" or len(names) == num:
            raise UserError(
                f"Of {what} fewer than {self.min_per_class} of the kept images are on one side, so no boundary can be "
                "found: take more samples, or rare=leave_out."
            )
        warnings.warn(f"{what} are left out: nearly all kept images are on one side.", stacklevel=3)


def latents(bench: EvalContext, num: int, space: str) -> np.ndarray:
    """Latents (num, dim) float64 of the bench's generated images: z, or in w the style of the last layer."""
    batches = bench.share(sampler.index_batches(num, bench.batch_size))
    codes = [torch.empty(0, _dim(bench, space))]
    for indices in batches:
        z = sampler.normal(bench.seed, sampler.LATENT, indices, bench.models.generator.z_dim)
        codes.append(z if space == "z" else _last_style(bench, z, indices))
    indices = torch.tensor([index for batch in batches for index in batch], dtype=torch.int64)
    return bench.gathered(torch.cat(codes), indices).double().numpy()


def _dim(bench: EvalContext, space: str) -> int:
    generator = bench.models.generator
    return generator.z_dim if space == "z" else generator.w_dim


@torch.no_grad()
def _last_style(bench: EvalContext, z: Tensor, indices: Sequence[int]) -> Tensor:
    labels = bench.labels(indices)
    labels = None if labels is None else at_least(MIN_MADE, labels).to(bench.device)
    ws = bench.models.generator.mapping(at_least(MIN_MADE, z).to(bench.device), labels)
    return ws[: len(z), -1].cpu()


def surest_half(logits: np.ndarray) -> np.ndarray:
    """Logits (N,) of one attribute -> numbers (N // 2,) of the images of which the classifier is surest, in order.

    softmax([l, -l]) is surest where |l| is largest; the logits tell apart what is 1 after rounding.
    """
    return np.sort(np.argsort(-np.abs(logits), kind="stable")[: len(logits) // 2])


def separate(
    codes: np.ndarray, labels: np.ndarray, *, name: str, seed: int, regularisation: float, max_iterations: int
) -> np.ndarray:
    """What a linear support vector machine fitted to codes (N, dim) and labels (N,) predicts for them, (N,) bool.

    scikit-learn's LinearSVC with its own weights and penalty, as in the original; where there are more codes than
    dimensions it is solved in the primal, which converges to the same boundary in fewer steps.
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
                f"The boundary of '{name}' is not found after max_iterations={max_iterations}: allow more."
            ) from None


def joint_counts(predicted: np.ndarray, labels: np.ndarray, groups: np.ndarray, num_groups: int) -> np.ndarray:
    """How many images of each group have each pair of prediction and label: (num_groups, 2, 2)."""
    cells = (groups * 2 + predicted) * 2 + labels
    return np.bincount(cells, minlength=4 * num_groups).reshape(num_groups, 2, 2)


def entropy(counts: np.ndarray) -> np.ndarray:
    """Bits of the distribution that counts (..., K) stand for, (...)."""
    p = counts / counts.sum(axis=-1, keepdims=True)
    return -np.where(p > 0, p * np.log2(np.where(p > 0, p, 1)), 0).sum(axis=-1)


def conditional_entropy(counts: np.ndarray) -> np.ndarray:
    """H(Y|X) in bits of joint counts (..., X, Y): H(X, Y) - H(X)."""
    joint = counts.reshape(*counts.shape[:-2], -1)
    return np.maximum(entropy(joint) - entropy(counts.sum(axis=-1)), 0)


def _interval(bits: float, counts: np.ndarray) -> tuple[float, float]:
    """Of the score, from joint counts (attributes, groups, 2, 2)."""
    rest = counts.sum(axis=1, keepdims=True) - counts
    low, high = jackknife_interval(bits, conditional_entropy(rest).sum(axis=0).tolist())
    return 2 ** max(low, 0.0), 2**high


def _show(
    bench: EvalContext, name: str, attributes: Sequence[str], counts: np.ndarray, left_out: Sequence[str]
) -> None:
    """A row for each attribute: how many of the kept images have it, H(Y), H(Y|X), and the machine's accuracy."""
    if not is_first():
        return
    shares = counts[:, :, 1].sum(axis=1) / counts.sum(axis=(1, 2))
    right = np.trace(counts, axis1=1, axis2=2) / counts.sum(axis=(1, 2))
    columns = [shares, entropy(counts.sum(axis=1)), conditional_entropy(counts), right]
    rows = [[attribute, *map(float, row)] for attribute, *row in zip(attributes, *columns, strict=True)]
    bench.tracker.table(f"evaluation/{name}", list(COLUMNS), rows)
    if bench.output_dir is not None:
        table = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        write_json(bench.output_dir / f"{name}.json", {"attributes": table, "left_out": list(left_out)})


def _check(*, space: str, rare: str, num_samples: int, num_groups: int, min_per_class: int) -> None:
    for name, value, allowed in (("space", space, ("z", "w")), ("rare", rare, ("refuse", "leave_out"))):
        if value not in allowed:
            raise UserError(f"{name}={value} is not known to linear separability; allowed are {', '.join(allowed)}.")
    if min_per_class < 1:
        raise UserError(f"min_per_class={min_per_class} is not allowed: a boundary needs one of each class at least.")
    if num_samples < 4 or num_groups == 1 or num_groups < 0 or num_groups * 2 > num_samples:
        raise UserError(
            f"num_groups={num_groups} does not fit num_samples={num_samples}: 0 groups (no interval), or from 2 groups "
            "with at least 2 samples each."
        )


def _check_num(num_samples: int, dim: int) -> None:
    """UserError where the score is 1 whatever the labels: dim + 1 points in general position can be cut in any way."""
    if num_samples // 2 <= dim + 1:
        raise UserError(
            f"num_samples={num_samples} keeps {num_samples // 2} images of each attribute, and a boundary in {dim} "
            f"dimensions separates {dim + 1} whatever they show: take more than {2 * dim + 3}, better many times that."
        )
