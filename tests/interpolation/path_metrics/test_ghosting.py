from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d

from wplus.interpolation.path_metrics.ghosting import detail_energy, ghosting, nearest_mixtures
from wplus.interpolation.walk import cross_dissolve


def test_a_dissolve_is_the_worst_and_a_morph_is_none(ways, judges):
    worst, morph = ghosting(ways["dissolve"], judges), ghosting(ways["morph"], judges)
    assert worst["distinctness"] == pytest.approx(0, abs=1e-12)
    assert worst["detail_dip"] == pytest.approx(0.5, abs=0.02)  # unrelated ends: a quarter of the energy of each
    # Three squares apart: the middle one is 1 + 1/4 + 1/4 from the mixture of the others, and these are 1 + 1 apart.
    assert morph["distinctness"] == pytest.approx(0.75)
    assert morph["detail_dip"] == pytest.approx(0, abs=1e-9)


def test_the_baseline_is_a_dissolve(judges):
    ends = torch.rand(2, 3, 16, 16) * 2 - 1
    walk = cross_dissolve("a to b", ends, perceptual=judges.perceptual, num_frames=10, batch_size=4)
    assert torch.equal(walk.images[[0, -1]], ends)
    assert len(walk.middle) == 2  # an even number of frames: two are nearest to the middle
    assert ghosting(walk, judges)["distinctness"] == pytest.approx(0, abs=1e-6)


def test_the_nearest_mixture_is_the_nearest():
    a, b, x = torch.randn(3, 3, 8, 8).double()
    (found,) = nearest_mixtures(x[None], a, b)
    candidates = a + torch.linspace(0, 1, 2001).view(-1, 1, 1, 1) * (b - a)
    best = (candidates - x).square().sum(dim=(1, 2, 3)).min()
    assert float((found - x).square().sum()) <= float(best)
    assert float((found - x).square().sum()) == pytest.approx(float(best), rel=1e-5)
    beyond = nearest_mixtures((b + 2 * (b - a))[None], a, b)
    assert torch.allclose(beyond[0], b)


def test_detail_is_what_a_blur_takes_away():
    images = torch.randn(2, 3, 9, 9)
    blurred = convolve1d(convolve1d(images.numpy(), [1, 2, 1], axis=2, mode="mirror"), [1, 2, 1], axis=3, mode="mirror")
    expected = ((images.numpy() - blurred / 16) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(detail_energy(images).numpy(), expected, rtol=1e-5)


def test_flat_or_equal_ends_leave_numbers_out(make_walk, judges):
    flat = make_walk(lambda t: t.view(-1, 1, 1, 1).expand(-1, 3, 8, 8))
    assert set(ghosting(flat, judges)) == {"distinctness"}
    same = make_walk(lambda t: torch.eye(8).double().expand(len(t), 3, 8, 8))
    assert set(ghosting(same, judges)) == {"detail_dip"}
