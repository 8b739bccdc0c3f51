"""The level of detail: its schedule, its place in the state, and real images at each level."""

import copy

import pytest
import torch
from torch import nn

from wplus.models.progressive import Growth, at_lod, set_lod


@pytest.mark.parametrize(("lod", "level", "fade"), [(0.0, 0, 0.0), (0.25, 0, 0.25), (2.0, 2, 0.0), (2.75, 2, 0.75)])
def test_level_and_fade(lod, level, fade):
    growth = Growth()
    growth.set(lod)
    assert (growth.level, growth.fade, float(growth.lod)) == (level, fade, lod)


def test_the_state_carries_it():
    growth, other = Growth(), Growth()
    growth.set(1.1)  # no float32: the host has what the buffer has
    other.load_state_dict(growth.state_dict())
    assert other.value == growth.value == float(growth.lod)
    assert copy.deepcopy(growth).value == growth.value


def test_every_part_of_a_network_is_set():
    network = nn.Sequential(nn.Sequential(Growth()), Growth())
    set_lod(network, 1.5)
    assert [module.value for module in network.modules() if isinstance(module, Growth)] == [1.5, 1.5]


def test_real_images_have_the_detail_of_the_generated():
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(at_lod(images, 0.0), images)
    halves = images.view(2, 3, 8, 2, 8, 2).mean(dim=(3, 5)).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(at_lod(images, 1.0), halves)
    torch.testing.assert_close(at_lod(images, 0.25), 0.75 * images + 0.25 * halves)
    quarters = images.view(2, 3, 4, 4, 4, 4).mean(dim=(3, 5)).repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(at_lod(images, 1.5), 0.5 * halves + 0.5 * quarters)
