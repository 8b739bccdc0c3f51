"""Inception score: is it clear what each generated image shows, and do all together show many things.

Salimans et al. 2016 (arXiv:1606.03498). The real images take no part, so the score says nothing of the data's own
variety, and is of little use where the classifier knows none of the classes. It is called is50k with the Inception
network that it was defined by, `class_score_<extractor>` with any other classifier.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from wplus.core.metric_result import MetricResult
from wplus.errors import UserError
from wplus.evaluation.bench import EvalContext
from wplus.evaluation.names import distribution_name
from wplus.evaluation.passes import Accumulated, FeaturePass, FeatureRows, Sampling

NUM_SPLITS = 10  # of the definition
MEANING = "Do generated images show clear things, and many of them: from 1, nothing clear or all alike, upwards."
STD_MEANING = "How much the score of one part of the generated images differs from that of another."


def split_scores(logits: Tensor, num_splits: int = NUM_SPLITS) -> Tensor:
    """exp(mean KL(p(y|x) || p(y))) of each of `num_splits` parts of logits (N, classes): (num_splits,) float64.

    Parts follow the given order, from i N / splits to (i + 1) N / splits, as in the authors' code; p(y) is the part's.
    """
    num = len(logits)
    bounds = [index * num // num_splits for index in range(num_splits + 1)]
    return torch.stack([_score(logits[start:stop]) for start, stop in pairwise(bounds)])


def _score(logits: Tensor) -> Tensor:
    log_p = logits.double().log_softmax(dim=1)
    log_marginal = log_p.logsumexp(dim=0) - torch.tensor(float(len(logits)), dtype=torch.float64).log()
    # A class that no image can be of has -inf in both: p is 0 there, and so is its part of the sum.
    divergence = torch.where(log_p.exp() > 0, log_p.exp() * (log_p - log_marginal), 0.0)
    return divergence.sum(dim=1).mean().exp()


class InceptionScore:
    """Metric: the mean of the scores of ten parts of the generated images, and their standard deviation.

    Args:
        extractor: one with `logits`, see `wplus.pretrained.extractor`; its name is part of the result's.
        num_generated: scores grow with it; compare at equal ones only.
        num_splits: parts.
        truncation_psi, truncation_cutoff, noise_mode: how the generator is sampled.
    """

    def __init__(
        self,
        *,
        extractor: Any,
        num_generated: int = 50_000,
        num_splits: int = NUM_SPLITS,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
    ) -> None:
        if not hasattr(extractor, "logits"):
            raise UserError(f"The extractor {extractor.name} tells no classes apart: choose effnet_lite0 or inception.")
        _check(num_splits, num_generated)
        self.extractor, self.num_generated, self.num_splits = extractor, num_generated, num_splits
        self.sampling = Sampling(truncation_psi, truncation_cutoff, noise_mode)

    def plan(self, bench: EvalContext) -> None:
        """Ask for the features."""
        self._features(bench)

    def __call__(self, bench: EvalContext) -> Iterator[MetricResult]:
        """Yield the mean over parts with its interval (Student's t), then their standard deviation."""
        scores = split_scores(self._logits(bench), self.num_splits)
        name, value = self._name(self._pass(bench)), float(scores.mean())
        protocol = self.extractor.protocol | self._pass(bench).protocol | {"num_splits": self.num_splits}
        if self.num_splits == 1:
            yield MetricResult(name, value, protocol, meaning=MEANING)
            return
        method = {"interval": f"95 %, Student's t over {self.num_splits} parts of the generated images"}
        reach = _t_factor(self.num_splits) * float(scores.std())
        yield MetricResult(name, value, protocol | method, (value - reach, value + reach), meaning=MEANING)
        none = {"interval": "none: a spread over parts, which the score's own interval is made of"}
        yield MetricResult(f"{name}_std", float(scores.std(correction=0)), protocol | none, meaning=STD_MEANING)

    def _pass(self, bench: EvalContext) -> FeaturePass:
        generated = bench.generated(self.num_generated, self.sampling)
        _check(self.num_splits, generated.num)  # of given images there may be fewer than were asked for
        return generated

    def _features(self, bench: EvalContext) -> Accumulated:
        return self._pass(bench).collect(self.extractor, FeatureRows())

    def _logits(self, bench: EvalContext) -> Tensor:
        features, extractor = self._features(bench).value.rows, self.extractor.to(bench.device)
        return torch.cat([extractor.logits(part.to(bench.device)).cpu() for part in features.split(1024)])

    def _name(self, generated: FeaturePass) -> str:
        is_usual = self.num_splits == NUM_SPLITS
        words = {"family": "is", "stand_in": "class_score", "famous": "is50k" if is_usual else "is_50000"}
        name = distribution_name(extractor=self.extractor.name, generated=generated.protocol, **words)
        return name if is_usual else f"{name}_{self.num_splits}splits"


def _check(num_splits: int, num_generated: int) -> None:
    if not 1 <= num_splits <= num_generated:
        raise UserError(
            f"num_splits={num_splits} does not fit {num_generated} generated images: from 1 to all of them."
        )


def _t_factor(num: int) -> float:
    """Half the length of a 95 % interval for the mean of `num` values, in standard deviations."""
    from scipy.special import stdtrit

    return float(stdtrit(num - 1, 0.975)) / num**0.5
