"""Ratios of distances, against loops and closed forms."""

from __future__ import annotations

import itertools

import pytest
import torch

from tests.probes.conftest import Pixels, make_images
from wplus.data import ImageSet
from wplus.probes.diversity import diversity, mean_distance, ratio, rms_distance


def test_distances_are_those_of_all_pairs():
    images = torch.randn(7, 3, 2, 2)
    pairs = [(a - b).norm() for a, b in itertools.combinations(images.double(), 2)]
    assert mean_distance(images.flatten(1)) == pytest.approx(float(torch.stack(pairs).mean()))
    assert rms_distance(images) == pytest.approx(float(torch.stack(pairs).square().mean().sqrt()))


def test_a_single_image_has_no_diversity(scene):
    here = scene()
    here.latents = lambda num, *, start=0: (torch.ones(num, 6), None)
    values = diversity(here, num_images=40).values
    assert list(values.values()) == pytest.approx([0, 0], abs=1e-6)


def test_the_data_itself_is_as_diverse_as_the_data(scene):
    here = scene()
    here.generated = lambda num: here.real(num) / 127.5 - 1
    here._features_made = lambda number: here._kept.features("train", number, here.device)
    assert list(diversity(here).values.values()) == pytest.approx([1, 1])


def test_images_half_as_far_apart_are_half_as_diverse(scene):
    here = scene()
    here.generated = lambda num: (here.real(num) / 127.5 - 1) / 2
    here._features_made = lambda number: here._kept.features("train", number, here.device) / 2
    assert list(diversity(here).values.values()) == pytest.approx([0.5, 0.5])


def test_its_names_say_the_extractor(scene):
    net = Pixels()
    net.name = "net"
    assert diversity(scene(extractor=net)).values.keys() == {"watch/diversity_net", "watch/diversity_pixels"}


def test_one_image_has_nothing_to_be_compared_with(scene):
    assert not diversity(scene(data=make_images(1))).values
    same = ImageSet(torch.zeros(4, 3, 16, 16, dtype=torch.uint8), None, list("abcd"))
    assert diversity(scene(data=same)).values["watch/diversity_pixels"] == 0
    assert ratio(0, 0) == 1
