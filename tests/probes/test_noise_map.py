"""The deviation over noise, known in closed form for a generator that adds its noise to the picture."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.probes.conftest import FAMILIES
from wplus.probes.noise_map import as_grey, grey_deviation, noise_map

STRENGTH = torch.tensor([[0.0, 0.01], [0.02, 0.04]]).repeat_interleave(8, 0).repeat_interleave(8, 1)  # (16, 16)


class Noisy(nn.Module):
    """w plus noise of a known strength, in the first two of three channels."""

    num_ws, z_dim, c_dim = 1, 1, 0
    noise_shapes = [(16, 16)]

    @property
    def synthesis(self):
        return self

    def mapping(self, z, c):
        return 0.1 * z[:, None]

    def __call__(self, ws, noise=None):
        images = ws[:, :, :, None].expand(-1, 3, 16, 16)
        if noise is None:
            return images
        return images + torch.tensor([1.0, 1.0, 0.0])[:, None, None] * STRENGTH * noise[0]


def test_the_deviation_is_that_of_the_grey_value():
    noise = [torch.randn(4000, 1, 16, 16)]
    found = grey_deviation(Noisy(), torch.zeros(1, 1), noise)
    torch.testing.assert_close(found, (STRENGTH * 2 / 3 * 127.5).double(), rtol=0.06, atol=0)


def test_few_draws_are_no_bias():
    """Of three draws: squares of the differences from their mean, over two."""
    noise = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 1, 16, 16)
    found = grey_deviation(Noisy(), torch.zeros(1, 1), [noise])
    torch.testing.assert_close(found, (STRENGTH * 2 / 3 * 127.5).double(), rtol=1e-4, atol=1e-4)


def test_what_lies_beyond_white_does_not_move():
    noise = [torch.randn(5, 1, 16, 16)]
    assert not grey_deviation(Noisy(), torch.full((1, 1), 5.0), noise).any()


def test_the_picture_and_the_number(scene):
    game = SimpleNamespace(ema=Noisy(), device=torch.device("cpu"), images_seen=0)
    seen = noise_map(scene(game=game), num_latents=2, num_draws=400)
    expected = float(STRENGTH.mean()) * 2 / 3 * 127.5
    assert seen.values == {"watch/noise_std": pytest.approx(expected, rel=0.03)}
    assert seen.pictures[0].key == "samples/noise"


def test_the_largest_deviation_is_white():
    assert as_grey(torch.tensor([[[0.0, 2.0]], [[4.0, 1.0]]])).tolist() == [[[[0, 128]]], [[[255, 64]]]]
    assert as_grey(torch.zeros(1, 1, 2)).tolist() == [[[[0, 0]]]]


@pytest.mark.parametrize("family", FAMILIES)
def test_networks_without_noise_are_left_out(scene, family):
    seen = noise_map(scene(family), num_draws=3)
    assert bool(seen.pictures) == bool(seen.values) == (family in ("stylegan1", "stylegan2"))
