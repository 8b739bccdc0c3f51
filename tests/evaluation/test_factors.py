"""Planted failures are detected: a missing value, few values, pairs that never occur, copies; but not misnaming."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.fakes import checking
from wplus.checkpoint import Models
from wplus.config import build, composed
from wplus.data import ImageSet
from wplus.data.cats import cat_images
from wplus.data.digits import digit_images
from wplus.errors import UserError
from wplus.evaluation.context import EvalContext
from wplus.evaluation.factor_counts import factor_of, num_pairs
from wplus.evaluation.factors import copies, factors
from wplus.evaluation.measure import measure

VALUES = {"body": 6, "fur": 4}


class Reader(nn.Module):
    """Names the factors that the first pixels tell; calls every `errs`-th image's body by the next one."""

    name, protocol = "reader", {"classifier": "reader", "attributes": {}}
    classes = {factor: [str(value) for value in range(num)] for factor, num in VALUES.items()}

    def __init__(self, errs: int = 0) -> None:
        super().__init__()
        self.errs = errs

    def predicted(self, images):
        named = images[:, 0, 0, :2].long()
        if self.errs:  # by a random pixel, so that an image is always named alike
            named[:, 0] = (named[:, 0] + (images[:, 0, 7, 7] % self.errs == 0)) % VALUES["body"]
        return named


def data(num: int, seed: int = 0, *, keep=lambda body, fur: np.ones(len(body), bool)) -> ImageSet:
    """Images of noise at 8 px whose first two pixels are body and fur, of those pairs that `keep` keeps."""
    rng = np.random.default_rng(seed)
    drawn = {factor: rng.integers(0, num_values, 4 * num) for factor, num_values in VALUES.items()}
    chosen = np.flatnonzero(keep(**drawn))[:num]
    images = torch.from_numpy(rng.integers(0, 256, (num, 3, 8, 8), dtype=np.uint8))
    attributes = {factor: torch.from_numpy(values[chosen]) for factor, values in drawn.items()}
    for column, factor in enumerate(VALUES):
        images[:, 0, 0, column] = attributes[factor].to(torch.uint8)
    return ImageSet(images, None, [f"{seed}-{index}" for index in range(num)], attributes=attributes)


def measured(samples: ImageSet, *, real: ImageSet | None = None, errs: int = 0, **options):
    """What the metric says of samples, by name without the classifier's."""
    context = EvalContext(Models(), real or data(900), data(600, 1), batch_size=64, progress=checking, samples=samples)
    options = {"classifier": Reader(errs), "num_generated": 600, "num_compared": 100, **options}
    found = list(measure(context, {"factors": lambda context: factors(context, **options)}))
    return {result.name.removesuffix("_reader").removeprefix("factors_"): result for result in found}


def test_all_is_there_of_the_data_itself():
    found = measured(data(600, 2))
    assert [found[factor].value for factor in VALUES] == [6, 4]
    assert found["body"].protocol["missing"] == []
    assert found["pairs"].value == 1
    assert found["memorised_8px"].value == found["memorised_8px"].protocol["of_held_out"] == 0
    assert found["body_chi2"].protocol["p"] > 0.01
    assert all(result.interval[0] <= result.value <= result.interval[1] for result in found.values())


@pytest.mark.parametrize("errs", [0, 5])
def test_a_missing_fur_and_two_bodies_are_seen_also_where_images_are_misnamed(errs):
    """Of K equally frequent values m are left: chi squared is K / m - 1. The classifier errs on a fifth of bodies."""
    found = measured(data(600, 2, keep=lambda body, fur: fur != 3), errs=errs)
    assert (found["fur"].value, found["fur"].protocol["missing"]) == (3, ["3"])
    assert found["fur_chi2"].value == pytest.approx(4 / 3 - 1, abs=0.06)
    assert (15 / 24 if errs else 18 / 24) <= found["pairs"].value <= 18 / 24  # of 33 images each a fifth is misnamed
    assert found["fur_chi2"].protocol["p"] < 1e-9
    found = measured(data(600, 2, keep=lambda body, fur: body < 2), errs=errs)
    assert (found["body"].value, found["body"].protocol["missing"]) == (2, ["2", "3", "4", "5"])
    assert found["body_chi2"].value == pytest.approx(6 / 2 - 1, rel=0.35 if errs else 0.1)  # errors mix values
    assert sum(found["body"].protocol["histogram"][value] for value in "01") == pytest.approx(1, abs=0.05)
    assert found["body"].protocol["accuracy"] == pytest.approx(0.8 if errs else 1, abs=0.04)
    assert found["pairs"].value == 8 / 24


def test_pairs_that_never_meet_are_missing_though_every_value_is_there():
    found = measured(data(600, 2, keep=lambda body, fur: (body + fur) % 2 == 0))
    assert (found["body"].value, found["fur"].value, found["pairs"].value) == (6, 4, 0.5)


def test_copies_of_training_images_are_counted():
    real, fresh = data(900), data(600, 2)
    images = torch.cat([real.images[:150], fresh.images[:450]])
    noisy = (images.int() + torch.randint(-3, 4, images.shape)).clamp(0, 255).to(torch.uint8)
    noisy[:, 0, 0] = images[:, 0, 0]
    mixed = replace(fresh, images=noisy, fingerprint="")
    assert measured(mixed, real=real, num_compared=600)["memorised_8px"].value == 0.25
    assert "memorised_8px" not in measured(fresh, real=real, num_compared=0)


def test_the_nearest_is_compared_with_the_second_nearest():
    real = torch.tensor([[0.0], [10.0], [10.1], [100.0]])
    images = torch.tensor([[1.0], [4.0], [10.04], [99.0]])
    assert copies(images, [real[:1], real[1:]]).tolist() == [True, False, False, True]


def test_the_corrected_histogram_is_that_of_the_true_values():
    """Counts that are exactly p C are explained by p; what is named is not."""
    confusion = np.array([[0.7, 0.3, 0.0], [0.1, 0.8, 0.1], [0.0, 0.2, 0.8]])
    rng = np.random.default_rng(0)
    known = np.repeat(np.arange(3), 20_000)
    named = (rng.random(60_000)[:, None] > confusion[known].cumsum(axis=1)).sum(axis=1)
    factor = factor_of("x", "abc", known, known, named)
    true = np.array([0.5, 0.0, 0.5])
    assert factor.corrected(10_000 * true @ confusion) == pytest.approx(true, abs=0.02)
    assert list(factor.present(10_000 * true @ confusion)) == [True, False, True]
    assert list(factor.present(10_000 * np.array([0.4, 0.2, 0.4]) @ confusion)) == [True, True, True]
    assert num_pairs(np.stack([named, named], axis=1), [factor, factor]) >= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": ["hat"]}, "factors must be one of body, fur, got 'hat'"),
        ({"num_compared": 601}, "num_compared must be a whole number of at least 0 and at most 600"),
        ({"num_groups": 1}, "num_groups must be 0"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        measured(data(600, 2), **options)


def test_a_value_that_the_classifier_does_not_know_is_refused():
    real = data(900)
    real.attributes["fur"][0] = 7
    with pytest.raises(UserError, match=r"does not know fur=7; it knows 0, 1, 2, 3\.$"):
        measured(data(600, 2), real=real)


def test_of_real_cats_the_bundled_classifier_misses_nothing():
    """And one fur that was taken out it misses."""
    cats = cat_images(resolution=32, split="all", num_images=1000)
    node = composed("evaluate", ["metrics=[factors]", "checkpoint=none", "run_dir=none"])["metrics"]["factors"]
    without = cats.subset((cats.attributes["fur"][500:] != 4).nonzero()[:, 0] + 500)
    options = {**node, "num_generated": 430, "num_compared": 20, "num_groups": 0}
    known = cats.subset(torch.arange(500))
    context = EvalContext(Models(), known, known, batch_size=64, progress=checking, samples=without)
    found = {result.name: result for result in measure(context, {"factors": build(options)})}
    assert {name: found[f"factors_{name}_cats32_attributes"].value for name in ("body", "eyes", "accessory")} == {
        "body": 15, "eyes": 15, "accessory": 16
    }  # fmt: skip
    assert found["factors_fur_cats32_attributes"].protocol["missing"] == ["4"]
    assert found["factors_mouth_cats32_attributes"].protocol["accuracy"] > 0.75


def test_modes_of_digits_are_counted():
    """Nine of ten where one was taken out; a single factor has no pairs."""
    digits = digit_images(resolution=32, split="held_out")
    node = composed("evaluate", ["metrics=[digits]", "checkpoint=none", "run_dir=none"])["metrics"]["digits"]
    options = {**node, "num_generated": 500, "num_compared": 0, "num_groups": 0}
    known, rest = digits.subset(torch.arange(300)), digits.subset(torch.arange(300, len(digits)))
    nine = rest.subset((rest.attributes["digit"] != 4).nonzero()[:, 0])
    for samples, count, missing in ((rest, 10, []), (nine, 9, ["4"])):
        context = EvalContext(Models(), known, known, batch_size=64, progress=checking, samples=samples)
        found = {result.name: result for result in measure(context, {"digits": build(options)})}
        assert set(found) == {"factors_digit_digits", "factors_digit_chi2_digits"}
        assert found["factors_digit_digits"].value == count
        assert found["factors_digit_digits"].protocol["missing"] == missing
        assert found["factors_digit_digits"].protocol["accuracy"] > 0.93
