"""Three kinds of images, as the discriminator sees them."""

from __future__ import annotations

import pytest
import torch

from tests.probes.conftest import make_images
from wplus.probes.logits import histograms, logits

BLUE, GREEN, ORANGE = (31, 111, 180), (58, 143, 77), (209, 98, 43)


def has(picture: torch.Tensor, colour: tuple[int, int, int]) -> bool:
    return bool((picture == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(dim=0).any())


def test_numbers_and_histograms_are_those_of_the_scene(scene):
    here = scene(held_out=make_images(24))
    seen = logits(here, num_images=32)
    for which, num in {"train": 32, "held_out": 24, "generated": 32}.items():
        expected = here.logits_of(which, 32)
        assert torch.equal(seen.histograms[f"watch/logits/{which}"], expected)
        assert len(expected) == num
        assert seen.values[f"watch/logits/{which}_mean"] == pytest.approx(float(expected.mean()))
    assert all(has(seen.pictures[0].image, colour) for colour in (BLUE, GREEN, ORANGE))


def test_without_held_out_images_there_are_two_kinds(scene):
    seen = logits(scene(), num_images=8)
    assert seen.histograms.keys() == {"watch/logits/train", "watch/logits/generated"}
    assert not has(seen.pictures[0].image, GREEN)


def test_a_lost_discriminator_is_drawn_too():
    assert histograms({"train": torch.tensor([float("nan")] * 3), "generated": torch.ones(3)}).shape[0] == 3
    assert histograms({"train": torch.full((3,), float("nan"))}).shape[0] == 3
