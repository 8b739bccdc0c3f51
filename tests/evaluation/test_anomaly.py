"""AUROC against slow counts of pairs, and images that a linear model cannot encode."""

import numpy as np
import pytest
import torch

from tests.evaluation.coded import coded_context, grey_images, linear_gaussian
from tests.fakes import SquaredPixels, measured
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.evaluation.anomaly import anomaly, auroc


def slow(odd: np.ndarray, normal: np.ndarray) -> tuple[float, float]:
    """Area and DeLong's variance, pair by pair."""
    psi = np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in normal] for x in odd])
    of_odd, of_normal = psi.mean(axis=1), psi.mean(axis=0)
    return psi.mean(), of_odd.var(ddof=1) / len(odd) + of_normal.var(ddof=1) / len(normal)


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_and_its_interval(ties):
    rng = np.random.default_rng(0)
    odd, normal = rng.normal(0.8, 1, 23), rng.normal(0, 1, 61)
    if ties:
        odd, normal = odd.round(), normal.round()
    area, (low, high) = auroc(odd, normal)
    expected, variance = slow(odd, normal)
    assert area == pytest.approx(expected)
    assert (high - low) / 2 == pytest.approx(1.959963984540054 * variance**0.5)
    assert auroc(normal + 100, normal)[0] == 1
    assert auroc(-odd, -normal)[0] == pytest.approx(1 - expected)


def test_the_interval_covers_the_truth():
    """Of two normal distributions one deviation apart the area is Phi(1 / sqrt 2)."""
    rng, truth = np.random.default_rng(1), 0.7602499389065233
    inside = [low <= truth <= high for low, high in
              (auroc(rng.normal(1, 1, 40), rng.normal(0, 1, 40))[1] for _ in range(400))]  # fmt: skip
    assert 0.91 < np.mean(inside) < 0.98


def test_what_the_model_has_not_learned_stands_out():
    """Samples of the model itself, and pictures of something else."""
    models = linear_gaussian(3, sigma=0.05)
    made = models.generator.synthesis(0.2 * torch.randn(30, 1, 3))
    other = torch.rand(12, 1, 16, 16) * 2 - 1
    pixels = ((torch.cat([made, other]).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    kinds = {"kind": torch.tensor([0] * 30 + [1] * 12)}
    held_out = ImageSet(pixels, None, [str(index) for index in range(42)], attributes=kinds)
    models.metadata = {"data": {"without": {"kind": [1]}}}  # as a training of such images writes
    context = coded_context(models, held_out=held_out)
    found = measured(context, anomaly, distance=SquaredPixels(), factor="kind", value=1)
    assert {name: result.value for name, result in found.items()} == dict.fromkeys(
        [f"anomaly_{score}_{what}" for score in ("pixels", "squared", "nelbo") for what in ("auroc", "detected")], 1.0
    )  # fmt: skip
    assert all(result.protocol["left_out_of_training"] for result in found.values())
    without = held_out.without({"kind": [1]}, split="held_out")  # which says nothing of the training
    models.metadata = {"data": {}}
    found = measured(coded_context(models, held_out=without), anomaly, distance=SquaredPixels(), factor="kind", value=1)
    assert not any(result.protocol["left_out_of_training"] for result in found.values())
    with pytest.raises(UserError, match=r"Some but not all held-out images must have kind=7, got 0 of 42"):
        measured(context, anomaly, distance=SquaredPixels(), factor="kind", value=7)
    with pytest.raises(UserError, match="no attribute 'digit'; they have body"):
        measured(coded_context(held_out=grey_images(9)), anomaly, distance=SquaredPixels(), factor="digit", value=7)
