"""The inception score in closed form, against a slow loop and torch-fidelity."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_isc import isc_features_to_metric

from tests.fakes import measured
from wplus.errors import UserError
from wplus.evaluation.inception_score import inception_score, split_scores


def random_logits(num: int, seed: int = 0) -> Tensor:
    return torch.randn(num, 12, generator=torch.Generator().manual_seed(seed)) * 3


def slow(logits: np.ndarray, num_splits: int) -> list[float]:
    """As the authors' code, with probabilities."""
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = []
    for i in range(num_splits):
        part = p[i * len(p) // num_splits : (i + 1) * len(p) // num_splits]
        kl = part * (np.log(part) - np.log(part.mean(axis=0, keepdims=True)))
        scores.append(float(np.exp(kl.sum(axis=1).mean())))
    return scores


def test_clear_images_of_all_classes_score_their_number_and_equal_ones_score_1():
    clear = 1000.0 * torch.eye(7).repeat(20, 1)
    assert split_scores(clear, 10).tolist() == pytest.approx([7.0] * 10)
    assert split_scores(clear[:1].repeat(20, 1)).tolist() == pytest.approx([1.0] * 10)
    assert split_scores(torch.zeros(20, 7)).tolist() == pytest.approx([1.0] * 10)
    impossible = torch.where(torch.eye(2).bool(), 0.0, -torch.inf).repeat(2, 1)
    assert split_scores(impossible, 2).tolist() == pytest.approx([2.0] * 2)


@pytest.mark.parametrize(("num", "num_splits"), [(100, 10), (37, 10), (5, 1)])
def test_against_a_slow_loop_and_torch_fidelity_without_its_shuffling(num, num_splits):
    logits = random_logits(num)
    scores = split_scores(logits, num_splits)
    np.testing.assert_allclose(scores, slow(logits.double().numpy(), num_splits), rtol=1e-10)
    theirs = isc_features_to_metric(logits, splits=num_splits, shuffle=False)
    assert float(scores.mean()) == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert float(scores.std(correction=0)) == pytest.approx(theirs["inception_score_std"], rel=1e-9)


# The metric


@pytest.fixture
def classifier(extractor):
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)) * 30
    extractor.logits = lambda features: features @ weight
    return extractor


def test_what_the_metric_yields(context, classifier):
    found = measured(context, inception_score, extractor=classifier, num_generated=50)
    assert list(found) == ["class_score_random_conv", "class_score_random_conv_std"]
    images = context.generated(50).source.images(torch.arange(50))
    scores = slow(classifier.logits(classifier(images).float()).double().numpy(), 10)
    mean, std = found.values()
    assert mean.value == pytest.approx(np.mean(scores), rel=1e-5)
    assert std.value == pytest.approx(np.std(scores), rel=1e-4)
    low, high = mean.interval
    assert (high - low) / 2 == pytest.approx(2.2621571628 * np.std(scores, ddof=1) / 10**0.5, rel=1e-4)
    assert "data" not in mean.protocol


def test_names(context, classifier):
    options = {"extractor": classifier, "num_generated": 50}
    assert list(measured(context, inception_score, num_splits=1, **options)) == ["class_score_random_conv_1splits"]
    classifier.name = "inception"
    assert list(measured(context, inception_score, **options)) == ["is_50", "is_50_std"]
    assert next(iter(measured(context, inception_score, num_splits=5, **options))) == "is_50_5splits"


def test_what_cannot_be_measured_is_refused(context, extractor, classifier):
    with pytest.raises(UserError, match="num_splits must be .* got 0"):
        inception_score(context, extractor=classifier, num_splits=0)
    given = replace(context, samples=type(context.real)(context.real.images[:9]))
    with pytest.raises(UserError, match="num_splits must be .* at most 9, got 10"):
        inception_score(given, extractor=classifier)
    del classifier.logits
    with pytest.raises(UserError, match="random_conv has no classifier"):
        inception_score(context, extractor=extractor)
