"""Disentanglement: how well single latent dimensions represent single factors of the image, by DCI and MIG.

The factors are those a classifier predicts for generated images, or the true ones of held-out images, whose codes come
from an encoder. Both scores depend on the axes: rotating a space changes them, but not linear separability (`ls_w`).
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
from scipy.stats import rankdata

from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import jackknife_interval, student_t
from wplus.errors import UserError, check_number
from wplus.evaluation import sampler
from wplus.evaluation.coding import codes, encoder_of, shown
from wplus.evaluation.context import EvalContext, check_groups, generator_protocol
from wplus.evaluation.factors import FactorNames
from wplus.evaluation.feature_pass import FeatureRows
from wplus.evaluation.separability import latents
from wplus.latents.space import Space, space_of
from wplus.models.generator import NoiseMode
from wplus.pretrained.attribute_classifier import AttributeClassifier
from wplus.pretrained.attributes import known_factors

DISENTANGLEMENT = MetricInfo(
    meaning="How far each latent dimension is informative about a single factor, averaged by importance: 1 for one "
    "factor, 0 for all factors equally.", direction="higher",
)  # fmt: skip
COMPLETENESS = MetricInfo(
    meaning="How far each factor is encoded in a single latent dimension: 1 for one, 0 for all dimensions equally.",
    direction="higher",
)
INFORMATIVENESS = MetricInfo(
    meaning="Share of held-out latents whose factor a random forest predicts correctly, mean over factors.",
    direction="higher",
)
MIG = MetricInfo(
    meaning="Mutual information of a factor with the most informative latent dimension minus that with the second, "
    "over the factor's entropy, mean over factors: 1 if a single dimension determines it.", direction="higher",
)  # fmt: skip
_NUM_BINS = 20  # equally filled bins per latent dimension (Locatello et al. 2019)


def disentanglement(
    context: EvalContext, *, classifier: AttributeClassifier | None = None, space: Space, num_samples: int = 5000,
    num_trees: int = 50, max_depth: int = 12, num_groups: int = 5, noise_mode: NoiseMode = "const",
) -> Iterator[MetricResult]:  # fmt: skip
    """Yield dci_disentanglement, dci_completeness, dci_informativeness and mig of a space, `..._<space>_<classifier>`.

    DCI follows Eastwood & Williams 2018 ("A framework for the quantitative evaluation of disentangled representations")
    with the feature importances of random forests; the mutual information gap follows Chen et al. 2018
    (arXiv:1802.04942), with latents discretised into 20 equally filled bins (Locatello et al. 2019, arXiv:1811.12359).

    Args:
        classifier: predicts the factors of generated images; None: use held-out images with their true factors and the
            encoder's codes, `..._<space>_true`.
        space: space of the latents that generated the images, as for `invert`: z, w, s, ...; one vector or all layers'.
        num_samples: maximum number of images; the forests are fitted to all groups but one and evaluated on that one.
        num_trees, max_depth: options of the forests, one per factor.
        num_groups: groups of images, for the intervals and for holding out; at least 2.
        noise_mode: how the generator is sampled.
    """
    check_number("num_trees", num_trees, lowest=1, whole=True)
    check_number("max_depth", max_depth, lowest=1, whole=True)
    check_groups(num_groups, num_samples)
    if num_groups < 2:
        raise UserError(f"num_groups must be 2 or more, of which one is held out, got {num_groups}.")
    space_of(space, context.generator)
    find = _of_held_out(context, num_samples) if classifier is None else (
        _of_generated(context, classifier, space, num_samples, noise_mode)
    )  # fmt: skip
    forest = {"num_trees": num_trees, "max_depth": max_depth}

    def results() -> Iterator[MetricResult]:
        told, found, protocol = find()
        told = {name: column for name, column in told.items() if len(np.unique(column)) > 1}
        named_by = "true" if classifier is None else classifier.name
        if not told:
            raise UserError(f"The images must differ in a factor of '{named_by}', and do not.")
        groups = np.arange(len(found)) % num_groups
        shared = protocol | {
            "space": space, "num_numbers": found.shape[1], "told": list(told), "num_groups": num_groups,
        }  # fmt: skip
        spelled = space.replace("+", "plus").replace("/", "")
        scores = _dci(found, told, groups, seed=context.seed, progress=context.progress, **forest)
        for part, (info, values) in scores.items():
            name, held_out = f"dci_{part}_{spelled}_{named_by}", info is INFORMATIVENESS
            yield _result(info, name, values, shared | forest, held_out=held_out)
        gaps = [mutual_information_gap(found[kept], {k: v[kept] for k, v in told.items()}) for kept in _parts(groups)]
        yield _result(MIG, f"mig_{spelled}_{named_by}", gaps, shared | {"num_bins": _NUM_BINS})

    return results()


Found = tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any]]
"""Factors, name -> values (N,); codes (N, D); the protocol."""


def _of_generated(
    context: EvalContext, classifier: AttributeClassifier, space: Space, num: int, noise_mode: NoiseMode
) -> Callable[[], Found]:
    """Generated images with the factors the classifier predicts."""
    names = list(classifier.classes)
    net = FactorNames(classifier, names)
    images = context.generated(num, sampler.Sampling(noise_mode=noise_mode), own=True)
    request = images.ask(net, FeatureRows())

    def find() -> Found:
        named = request.value.rows.numpy().astype(np.int64)
        told = dict(zip(names, named.T, strict=True))
        return told, latents(context, num, space), net.protocol | images.protocol

    return find


def _of_held_out(context: EvalContext, num: int) -> Callable[[], Found]:
    """Held-out images with their true factors and the encoder's codes."""
    encoder_of(context)

    def find() -> Found:
        some = shown(context, context.held_out, num, what="held-out")
        told = {name: np.unique(values[some.order.numpy()], return_inverse=True)[1]
                for name, values in known_factors(some.images).items()}  # fmt: skip
        return told, codes(context, some), generator_protocol(context.models) | some.protocol

    return find


def _parts(groups: np.ndarray) -> list[np.ndarray]:
    """For each group, the mask of samples outside it."""
    return [groups != group for group in np.unique(groups)]


def _result(
    info: MetricInfo, name: str, values: list[float], protocol: dict[str, Any], *, held_out: bool = False
) -> MetricResult:
    """The mean over groups, with its interval: values are of all samples but a group or, `held_out`, of a group."""
    value = float(np.mean(values))
    if held_out:
        reach = student_t(len(values) - 1) * float(np.std(values, ddof=1)) / len(values) ** 0.5
        interval, how = (value - reach, value + reach), "95 %, Student's t over the held-out groups"
    else:
        interval, how = jackknife_interval(value, values), "95 %, delete-a-group jackknife"
    return MetricResult.of(info, name, value, protocol=protocol | {"interval": how}, interval=interval)


def _dci(
    codes: np.ndarray, told: dict[str, np.ndarray], groups: np.ndarray, *, seed: int, progress: Callable[..., Any],
    num_trees: int, max_depth: int,
) -> dict[str, tuple[MetricInfo, list[float]]]:  # fmt: skip
    """Each of the three scores, computed without each group of samples in turn."""
    from sklearn.ensemble import RandomForestClassifier  # slow to import, needed here only

    found: dict[str, tuple[MetricInfo, list[float]]] = {
        "disentanglement": (DISENTANGLEMENT, []), "completeness": (COMPLETENESS, []),
        "informativeness": (INFORMATIVENESS, []),
    }  # fmt: skip
    for kept in progress(_parts(groups), "Forests (groups)", total=len(np.unique(groups))):
        importances, shares = [], []
        for labels in told.values():
            forest = RandomForestClassifier(num_trees, max_depth=max_depth, random_state=seed)
            forest.fit(codes[kept], labels[kept])
            importances.append(forest.feature_importances_)
            shares.append(float((forest.predict(codes[~kept]) == labels[~kept]).mean()))
        matrix = np.stack(importances, axis=1)
        for name, value in zip(found, (*disentangled(matrix), float(np.mean(shares))), strict=True):
            found[name][1].append(value)
    return found


def disentangled(importances: np.ndarray) -> tuple[float, float]:
    """Disentanglement and completeness from importances (D, K) of each latent dimension for each factor.

    D_i = 1 - H_K(P_i), averaged with each dimension's share of the total importance as weight; C_k = 1 - H_D(P_k),
    averaged, 0 for a factor that no dimension is important for. The logarithm's base is the number of alternatives.
    """
    numbers, factors = importances.shape
    total = importances.sum()
    weights = importances.sum(axis=1) / (total if total else 1.0)
    one_factor = 1 - _entropy(importances, axis=1) / np.log(factors) if factors > 1 else np.ones(numbers)
    one_number = 1 - _entropy(importances, axis=0) / np.log(numbers) if numbers > 1 else np.ones(factors)
    is_encoded = importances.sum(axis=0) > 0
    return float((weights * one_factor).sum()), float((is_encoded * one_number).mean())


def _entropy(counts: np.ndarray, axis: int) -> np.ndarray:
    """Entropy in nats of non-negative counts along an axis; 0 where all are 0."""
    shares = counts / np.maximum(counts.sum(axis=axis, keepdims=True), np.finfo(np.float64).tiny)
    return cast(np.ndarray, -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=axis))


def mutual_information_gap(codes: np.ndarray, told: dict[str, np.ndarray]) -> float:
    """Mutual information gap of codes (N, D) and factors, name -> (N,) integers, averaged; 0 for constant factors."""
    ranks = rankdata(codes, method="min", axis=0).astype(np.int64) - 1  # equal values share a bin
    bins = ranks * _NUM_BINS // len(codes)  # (N, D)
    gaps = []
    for labels in told.values():
        values = np.unique(labels, return_inverse=True)[1]
        joint = np.zeros((codes.shape[1], _NUM_BINS, values.max() + 1))
        for number, column in enumerate(bins.T):
            np.add.at(joint[number], (column, values), 1)
        of_factor = _entropy(np.bincount(values).astype(np.float64), axis=0)
        information = (_entropy(joint.sum(axis=2), axis=1) + of_factor
                       - _entropy(joint.reshape(len(joint), -1), axis=1))  # fmt: skip
        first, second = np.sort(information)[::-1][:2] if len(information) > 1 else (information[0], 0.0)
        gaps.append((first - second) / of_factor if of_factor else 0.0)
    return float(np.mean(gaps))
