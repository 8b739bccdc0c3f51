"""Diversity, precision and recall of few images; estimates against loops, closed forms and repeated draws."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.probes.conftest import Pixels, make_images, numbers
from wplus.core.images import to_float
from wplus.core.stats import jackknife_interval
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.evaluation.manifold import precision_recall
from wplus.probes.quality import (
    Estimate,
    distance_estimate,
    distinct_estimate,
    diversity,
    diversity_estimate,
    fd,
    jackknife_mean,
    num_distinct,
    pairwise,
    precision_recall_estimates,
    recall,
    share,
)


def test_distances_are_those_of_all_pairs(context):
    here = context()
    values, sides = numbers(diversity(here, num_images=7)), []
    for which in ("generated", "train"):
        images = here.images(which, 7)
        floats = (images if images.is_floating_point() else to_float(images)).clamp(-1, 1)
        pairs = [[(a - b).double().norm() for a, b in itertools.combinations(each, 2)]
                 for each in (here.features(which, 7), floats)]  # fmt: skip
        sides.append((torch.stack(pairs[0]).mean(), torch.stack(pairs[1]).square().mean().sqrt()))
    expected = [float(a / b) for a, b in zip(*sides, strict=True)]
    assert list(values.values()) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_images_so_far_apart_are_as_diverse(context, scale):
    """The data is as diverse as itself; shifted towards the mean grey of -1 it is less so."""
    here = context()
    here._generated = lambda number: (to_float(here.data.batch("train", number)[0]) + 1) * scale - 1
    values = numbers(diversity(here))
    assert values == pytest.approx({"probe/diversity_raw": scale, "probe/diversity_pixels": scale}, rel=0.01)


def test_a_single_image_has_no_diversity(context):
    values = numbers(diversity(context(images=lambda number: torch.zeros(32, 3, 16, 16)), num_images=40))
    assert values == {"probe/diversity_raw": 0, "probe/diversity_pixels": 0}


def test_one_image_has_nothing_to_be_compared_with(context):
    assert not diversity(context(data=make_images(1))).values
    same = ImageSet(torch.zeros(4, 3, 16, 16, dtype=torch.uint8), None, list("abcd"))
    assert numbers(diversity(context(data=same)))["probe/diversity_pixels"] == 0
    alike = context(data=same, images=lambda number: torch.zeros(32, 3, 16, 16))
    assert numbers(diversity(alike)) == {"probe/diversity_raw": 1, "probe/diversity_pixels": 1}


def test_precision_and_recall_are_those_of_the_metric(context):
    here = context()
    expected = precision_recall(here.features("train", 32), here.features("generated", 32))
    found = numbers(recall(here, num_images=32))
    assert found == dict(zip(("val/precision_raw", "val/recall_raw"), expected, strict=True))
    itself = context()
    itself._generated = lambda number: to_float(itself.data.batch("train", number)[0])
    found = numbers(recall(itself, num_images=32, k=2))
    assert found == {"val/precision_raw_k2": 1.0, "val/recall_raw_k2": 1.0}


def test_the_distance_is_that_of_the_metric_with_its_interval(context):
    """Fewer images than features, against Fréchet's formula by eigenvalues, and the jackknife as the book has it."""

    class Small(Pixels):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return F.adaptive_avg_pool2d(images.double() / 255, 4).flatten(1)  # 48 numbers

    here = context(extractor=Small())
    real, made = (here.features(which, 30).double() for which in ("train", "generated"))

    def distance(rows: torch.Tensor) -> float:
        a, b = real.T.cov(), rows.T.cov()
        root = np.sqrt(np.linalg.eigvals((a @ b).numpy()).real.clip(min=0)).sum()
        return float((real.mean(0) - rows.mean(0)).square().sum() + a.trace() + b.trace()) - 2 * root

    entry = fd(here, num_images=30, num_groups=3).summary["val/fd_raw"]
    assert entry["value"] == pytest.approx(distance(made), rel=1e-4)
    without = [distance(made[torch.arange(30) % 3 != group]) for group in range(3)]
    assert entry["interval"] == pytest.approx(jackknife_interval(entry["value"], without), rel=1e-4)
    expected = {"num_real": 30, "num_generated": 30, "split": "train", "extractor": "raw", "kimg": 0.0}
    assert expected.items() <= entry["protocol"].items()
    assert "biased upwards" in entry["meaning"]
    assert fd(here, num_images=30, num_groups=0).summary["val/fd_raw"]["interval"] is None


def test_the_same_images_have_no_distance_and_lost_ones_none_at_all(context):
    itself = context()
    itself._generated = lambda number: to_float(itself.data.batch("train", number)[0])
    assert numbers(fd(itself, num_images=32))["val/fd_raw"] == pytest.approx(0, abs=1e-6)
    lost = context()
    lost.data.extract = lambda images, device: torch.full((len(images), 4), torch.nan)
    assert not fd(lost).values
    assert not fd(context(data=make_images(9))).values
    assert numbers(fd(context(data=make_images(9)), num_groups=4)).keys() == {"val/fd_raw"}


def test_few_images_have_no_neighbours(context):
    assert recall(context(data=make_images(3))).values == {}
    with pytest.raises(UserError, match="num_groups must be 0"):
        fd(context(), num_images=8, num_groups=5)
    with pytest.raises(UserError, match=r"^k must be .* at most 4, got 5"):
        recall(context(), num_images=5, k=5)


# --- estimates --------------------------------------------------------------------------------------------------------


def normal(num: int, seed: int, *, scale: float = 1.0, dim: int = 16) -> torch.Tensor:
    return scale * torch.randn(num, dim, generator=torch.Generator().manual_seed(seed))


def test_over_is_division_with_both_errors():
    found = Estimate(2.0, 0.3).over(Estimate(4.0, 0.2))
    assert found.value == 0.5
    assert found.error == pytest.approx(0.5 * np.hypot(0.3 / 2, 0.2 / 4))
    assert Estimate(0.0, 0.1).over(Estimate(2.0, 0.5)) == Estimate(0.0, 0.05)


def test_diversity_is_1_for_equal_sets_0_for_one_image_and_linear():
    real = normal(50, 0)
    assert diversity_estimate(real, real).value == 1
    assert diversity_estimate(real[:1].expand(50, -1), real) == Estimate(0.0, 0.0)
    assert diversity_estimate(3 * real, real).value == pytest.approx(3)
    assert diversity_estimate(real, real[:1].expand(50, -1)) is None


def test_the_energy_distance_is_that_of_a_shift_and_0_for_equal_sets():
    """By the mean of a slow double loop; for two samples of one distribution it is 0 within its error."""
    rng = torch.Generator().manual_seed(0)
    real, same, moved = (torch.randn(120, 5, generator=rng) + shift for shift in (0, 0, 1.5))
    found = distance_estimate(moved, real)
    off = ~torch.eye(120, dtype=torch.bool)
    a, b, cross = (torch.cdist(x.double(), y.double()) for x, y in ((real, real), (moved, moved), (real, moved)))
    expected = (2 * cross.mean() - a[off].mean() - b[off].mean()) / a[off].mean()
    assert found.value == pytest.approx(float(expected), rel=1e-6)
    assert found.low > 0
    near = distance_estimate(same, real)
    assert near.low < 0 < near.high
    assert distance_estimate(real, real[:1].expand(120, -1)) is None


def test_the_jackknife_is_that_of_leaving_images_out():
    rows = normal(12, 1)
    left = [float(torch.nn.functional.pdist(rows[torch.arange(12) != i].double()).mean()) for i in range(12)]
    expected = np.sqrt(11 / 12 * np.sum((np.array(left) - np.mean(left)) ** 2))
    assert jackknife_mean(pairwise(rows)).error == pytest.approx(expected)


@pytest.mark.parametrize("num_kinds", [1, 4, 20])
def test_distinct_counts_the_kinds_that_there_are(num_kinds):
    real = normal(200, 0)
    kinds = normal(num_kinds, 1)[torch.arange(200) % num_kinds] + 0.01 * normal(200, 2)
    found = distinct_estimate(kinds, real)
    kept = num_distinct(pairwise(real), float(pairwise(real).fill_diagonal_(torch.inf).amin(dim=1).quantile(0.05)))
    assert kept > 185
    assert found.value == pytest.approx(num_kinds / kept)
    assert distinct_estimate(real, real).value == 1


def test_real_images_that_are_there_twice_do_not_blind_distinct():
    real = normal(100, 0).repeat(2, 1)
    assert distinct_estimate(normal(1, 1).expand(200, -1), real).value < 0.02
    assert distinct_estimate(real, real[:1].expand(200, -1)) is None


def test_a_share_knows_an_error_at_none_and_all():
    assert share(0, 100).error == pytest.approx(share(100, 100).error)
    assert share(0, 100).error > 0.02
    assert share(50, 100).error == pytest.approx(0.5 / np.sqrt(54))


def test_precision_and_recall_are_those_of_the_metric_in_their_order():
    real = normal(40, 0)
    assert [side.value for side in precision_recall_estimates(real, real)] == [1, 1]
    assert [side.value for side in precision_recall_estimates(real + 100, real)] == [0, 0]
    one = real[:1] + 1e-3 * normal(40, 1)  # an image that is real, again and again
    precision, recall = precision_recall_estimates(one, real)
    assert precision.value == 1
    assert recall.value < 0.05
