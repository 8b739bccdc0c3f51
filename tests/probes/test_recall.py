"""Precision and recall at a small scale, under names that say so."""

from __future__ import annotations

import pytest
import torch

from tests.probes.conftest import make_images
from wplus.core.images import to_float
from wplus.errors import UserError
from wplus.evaluation.manifold import precision_recall
from wplus.probes.recall import recall


def test_values_are_those_of_the_metric(scene):
    here = scene()
    found = recall(here, num_images=32).values
    expected = precision_recall(here.features("train", 32), here.features("generated", 32))
    assert found == dict(zip(("watch/precision_raw_32", "watch/recall_raw_32"), expected, strict=True))


def test_the_data_itself_has_all_of_both(scene):
    here = scene()
    here._make = lambda number: to_float(here._kept.batch("train", number)[0])
    assert recall(here, num_images=32, k=2).values == {"watch/precision_raw_32_k2": 1.0, "watch/recall_raw_32_k2": 1.0}


def test_one_real_image_again_and_again_is_precise_and_recalls_nothing(scene):
    here = scene()
    source = torch.Generator().manual_seed(0)
    one = to_float(here._kept.batch("train", 0)[0][:1])
    here._make = lambda number: one + 0.01 * torch.randn(32, 3, 16, 16, generator=source)
    found = recall(here, num_images=32).values
    assert found["watch/precision_raw_32"] == 1
    assert found["watch/recall_raw_32"] < 0.1


def test_few_images_have_no_neighbours(scene):
    assert recall(scene(data=make_images(3))).values == {}
    with pytest.raises(UserError, match=r"^k must be .* at most 4, got 5"):
        recall(scene(), num_images=5, k=5)
