from __future__ import annotations

import pytest
import torch

from wplus.images import to_float, to_uint8
from wplus.interpolation.quality.fidelity import fidelity


def noise(t):
    """Stored exactly: of 8 bits."""
    pixels = torch.randint(20, 200, (2, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return to_float(pixels).double()[(t > 0.5).long()]


def test_ends_against_the_images(make_walk, judges):
    ends = noise(torch.tensor([0.0, 1.0]).double())
    assert fidelity(make_walk(noise, targets=ends), judges) == {"end_squared": 0, "end_psnr_db": 100}
    off = fidelity(make_walk(noise, targets=ends + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1)), judges)
    assert off["end_squared"] == pytest.approx(16 * (0.2**2 + 0.02**2) / 2, rel=1e-5)
    assert off["end_psnr_db"] == pytest.approx((20 + 40) / 2, rel=1e-5)  # a tenth and a hundredth of the range of 2


def test_ends_are_taken_as_they_are_stored(make_walk, judges):
    """What a picture shows cannot tell them apart."""

    def loud(t):
        return 1.5 * torch.sin(9 * noise(t))

    stored = to_float(to_uint8(loud(torch.tensor([0.0, 1.0]).double()))).double()
    assert (loud(torch.ones(1)).abs() > 1).any()
    assert fidelity(make_walk(loud, targets=stored), judges) == {"end_squared": 0, "end_psnr_db": 100}


def test_each_end_has_its_own_image(make_walk, judges):
    a, b = noise(torch.tensor([0.0, 1.0]).double())
    swapped = make_walk(noise, targets=torch.stack([b, a]))
    assert fidelity(swapped, judges)["end_squared"] == pytest.approx(float((a - b).square().sum()))


def test_left_out_without_real_images(ways, judges):
    assert fidelity(ways["straight"], judges) == {}
