"""Pixel distances against closed forms, one number per image."""

from __future__ import annotations

import torch

from wplus.losses.pixel import l1, l2, psnr


def flat(*values: float) -> torch.Tensor:
    """One constant image per value: (N, 3, 4, 4)."""
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 4, 4)


def test_constant_images():
    a, b = flat(-1.0, 0.0, 0.5), flat(1.0, 0.5, 0.5)
    torch.testing.assert_close(l1(a, b), torch.tensor([2.0, 0.5, 0.0]))
    torch.testing.assert_close(l2(a, b), torch.tensor([4.0, 0.25, 0.0]))


def test_psnr_uses_the_range_two():
    # mse = range^2 is 0 dB; GAN inversion papers that use range 1 or 10 log10(2 / mse) print other numbers.
    torch.testing.assert_close(psnr(flat(-1.0), flat(1.0)), torch.tensor([0.0]))
    torch.testing.assert_close(psnr(flat(0.0), flat(0.02)), torch.tensor([40.0]), atol=1e-4, rtol=0)


def test_psnr_equals_that_of_bytes():
    a, b = torch.randint(0, 256, (2, 1, 3, 8, 8)).double()
    bytes_psnr = 10 * torch.log10(255**2 / (a - b).square().mean())
    torch.testing.assert_close(psnr(a / 127.5 - 1, b / 127.5 - 1)[0], bytes_psnr)


def test_psnr_of_equal_images_is_finite():
    assert psnr(flat(0.3), flat(0.3)).item() == 100.0


def test_images_do_not_mix():
    a, b = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)
    for distance in (l1, l2, psnr):
        alone = torch.cat([distance(a[i : i + 1], b[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(distance(a, b), alone)
