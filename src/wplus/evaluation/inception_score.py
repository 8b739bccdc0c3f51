"""Inception score: whether generated images are individually recognisable and collectively diverse.

Salimans et al. 2016 (arXiv:1606.03498). Real images are not used, and the score means little if the classifier was
trained on other classes. It is named is50k with the Inception network it was defined with, and
`class_score_<extractor>` with any other classifier.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import student_t
from wplus.errors import UserError, check_number
from wplus.evaluation.context import EvalContext
from wplus.evaluation.feature_pass import FeatureRows
from wplus.evaluation.names import distribution_name
from wplus.evaluation.sampler import Sampling
from wplus.models.generator import NoiseMode
from wplus.pretrained.extractor import Extractor

NUM_SPLITS = 10  # as defined
SCORE = MetricInfo(
    meaning="How recognisable and diverse generated images are: from 1, unrecognisable or all of one class, upwards.",
    direction="higher",
)
DEVIATION = MetricInfo(meaning="Standard deviation of the score from one part of the generated images to another.")


def split_scores(logits: Tensor, num_splits: int = NUM_SPLITS) -> Tensor:
    """Return exp(mean KL(p(y|x) || p(y))) of each of `num_splits` parts of logits (N, classes): (num_splits,) float64.

    Part i spans i N / splits to (i + 1) N / splits in the given order, as in the authors' code; p(y) is per part.
    """
    bounds, scores = [index * len(logits) // num_splits for index in range(num_splits + 1)], []
    for start, stop in pairwise(bounds):
        log_p = logits[start:stop].double().log_softmax(dim=1)
        log_marginal = log_p.logsumexp(dim=0) - torch.tensor(float(len(log_p)), dtype=torch.float64).log()
        # A class that is impossible for every image has -inf in both terms; p is 0 there, and so is its contribution.
        divergence = torch.where(log_p.exp() > 0, log_p.exp() * (log_p - log_marginal), 0.0)
        scores.append(divergence.sum(dim=1).mean().exp())
    return torch.stack(scores)


def inception_score(context: EvalContext, *, extractor: Extractor, num_generated: int = 10_000,
                    num_splits: int = NUM_SPLITS, truncation_psi: float = 1.0, truncation_cutoff: int | None = None,
                    noise_mode: NoiseMode = "const") -> Iterator[MetricResult]:  # fmt: skip
    """Yield the mean score over parts of the generated images with its interval (Student's t), then their standard
    deviation.

    Args:
        extractor: must have `logits`.
        num_generated, ...: which images, as in `wplus.evaluation.frechet.fd`; scores grow with their number.
        num_splits: number of parts.
    """
    if not hasattr(extractor, "logits"):
        raise UserError(f"The extractor {extractor.name} has no classifier: choose effnet_lite0 or inception.")
    generated = context.generated(num_generated, Sampling(truncation_psi, truncation_cutoff, noise_mode))
    check_number("num_splits", num_splits, lowest=1, highest=generated.num, whole=True)
    features = generated.ask(extractor, FeatureRows())

    def results() -> Iterator[MetricResult]:
        net: Any = extractor.to(context.device)
        logits = [net.logits(part.to(context.device)).cpu() for part in features.value.rows.split(1024)]
        scores = split_scores(torch.cat(logits), num_splits)
        protocol = extractor.protocol | generated.protocol | {"num_splits": num_splits}
        is_usual, value = num_splits == NUM_SPLITS, float(scores.mean())
        name = distribution_name("is", "class_score", protocol, famous="is50k" if is_usual else "is_50000")
        name += f"_{num_splits}splits" * (not is_usual)
        if num_splits == 1:
            yield MetricResult.of(SCORE, name, value, protocol=protocol)
            return
        reach = student_t(num_splits - 1) * float(scores.std()) / num_splits**0.5
        method = {"interval": f"95 %, Student's t over {num_splits} parts of the generated images"}
        yield MetricResult.of(SCORE, name, value, protocol=protocol | method, interval=(value - reach, value + reach))
        none = {"interval": "none: a spread over parts, which the score's own interval is made of"}
        yield MetricResult.of(DEVIATION, f"{name}_std", float(scores.std(correction=0)), protocol=protocol | none)

    return results()
