from __future__ import annotations

import pytest
import torch

from wplus.core.images import to_float, to_uint8
from wplus.interpolation.path_metrics.fidelity import fidelity

FAITHFUL = {"end_squared": 0, "end_psnr_db": 100, "end_miss": 0}


def noise(t):
    """Stored exactly: of 8 bits."""
    pixels = torch.randint(20, 200, (2, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return to_float(pixels).double()[(t > 0.5).long()]


def test_ends_against_the_images(make_walk, judges):
    ends = noise(torch.tensor([0.0, 1.0]).double())
    assert fidelity(make_walk(noise, targets=ends), judges) == FAITHFUL
    off = fidelity(make_walk(noise, targets=ends + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1)), judges)
    assert off["end_squared"] == pytest.approx(16 * (0.2**2 + 0.02**2) / 2, rel=1e-5)
    apart = float((ends[0] - ends[1] + 0.18).square().sum())
    assert off["end_miss"] == pytest.approx((16 * 0.2**2 / apart) ** 0.5, rel=1e-5)  # the larger error of the two
    assert off["end_psnr_db"] == pytest.approx((20 + 40) / 2, rel=1e-5)  # a tenth and a hundredth of the range of 2


def test_ends_are_taken_as_they_are_stored(make_walk, judges):
    """What a picture shows cannot tell them apart."""

    def loud(t):
        return 1.5 * torch.sin(9 * noise(t))

    stored = to_float(to_uint8(loud(torch.tensor([0.0, 1.0]).double()))).double()
    assert (loud(torch.ones(1)).abs() > 1).any()
    assert fidelity(make_walk(loud, targets=stored), judges) == FAITHFUL


def test_each_end_has_its_own_image(make_walk, judges):
    a, b = noise(torch.tensor([0.0, 1.0]).double())
    swapped = make_walk(noise, targets=torch.stack([b, a]))
    assert fidelity(swapped, judges)["end_squared"] == pytest.approx(float((a - b).square().sum()))
    assert fidelity(swapped, judges)["end_miss"] == pytest.approx(1)  # as far from its image as the other image is


def test_up_to_a_half_an_end_is_nearer_to_its_own_image(make_walk, judges):
    """Whatever the direction in which it misses; just beyond it may be nearer to the other."""
    a, b = noise(torch.tensor([0.0, 1.0]).double())
    for share, nearer in ((0.49, True), (0.51, False)):
        targets = torch.stack([a, a + (b - a) * 100 / 255])
        moved = make_walk(lambda t, share=share, targets=targets: targets[:1] + share * (targets[1:] - targets[:1])
                          + (t - t).view(-1, 1, 1, 1), targets=targets)  # fmt: skip
        found = fidelity(moved, judges)
        end = to_float(to_uint8(moved.images[:1])).double()
        assert (float((end - a).square().sum()) < float((end - targets[1]).square().sum())) == nearer
        assert found["end_miss"] == pytest.approx(max(share, 1 - share), abs=0.02)


def test_equal_images_have_no_distance_to_compare_with(make_walk, judges):
    (a,) = noise(torch.zeros(1).double())
    assert set(fidelity(make_walk(noise, targets=torch.stack([a, a])), judges)) == {"end_squared", "end_psnr_db"}


def test_left_out_without_real_images(ways, judges):
    assert fidelity(ways["straight"], judges) == {}
