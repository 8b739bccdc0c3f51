from __future__ import annotations

import pytest
import torch

from wplus.interpolation.quality.fidelity import fidelity


def test_ends_against_the_images(make_walk, ways, judges):
    at = ways["straight"].at
    ends = at(torch.tensor([0.0, 1.0]).double())
    assert fidelity(make_walk(at, targets=ends), judges) == {"end_squared": 0, "end_psnr_db": 100}
    off = fidelity(make_walk(at, targets=ends + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1)), judges)
    assert off["end_squared"] == pytest.approx(16 * (0.2**2 + 0.02**2) / 2, rel=1e-5)
    assert off["end_psnr_db"] == pytest.approx((20 + 40) / 2, rel=1e-5)  # a tenth and a hundredth of the range of 2


def test_each_end_has_its_own_image(make_walk, ways, judges):
    at = ways["straight"].at
    swapped = make_walk(at, targets=at(torch.tensor([1.0, 0.0]).double()))
    assert fidelity(swapped, judges)["end_squared"] == pytest.approx(5)


def test_left_out_without_real_images(ways, judges):
    assert fidelity(ways["straight"], judges) == {}
