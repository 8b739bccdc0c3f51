"""Pixel distances against closed forms, one number per image."""

import torch

from wplus.losses.pixel import L1, L2, l1, l2, psnr, psnr_of


def flat(*values: float) -> torch.Tensor:
    """One constant image per value: (N, 3, 4, 4)."""
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 4, 4)


def test_constant_images():
    a, b = flat(-1.0, 0.0, 0.5), flat(1.0, 0.5, 0.5)
    for function, expected in ((l1, [2.0, 0.5, 0.0]), (l2, [4.0, 0.25, 0.0])):
        torch.testing.assert_close(function(a, b), torch.tensor(expected))
    a, b = torch.rand(2, 4, 3, 8, 8) * 2 - 1
    assert torch.equal(L1()(a, b), l1(a, b))
    assert torch.equal(L2()(a, b), l2(a, b))


def test_psnr_uses_the_range_two():
    """mse = range^2 is 0 dB, equal images 100; papers that use range 1 or 10 log10(2 / mse) print other numbers."""
    found = psnr(flat(-1.0, 0.0, 0.3), flat(1.0, 0.02, 0.3))
    torch.testing.assert_close(found, torch.tensor([0.0, 40.0, 100.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(psnr_of(l2(flat(-1.0, 0.0, 0.3), flat(1.0, 0.02, 0.3))), found)


def test_psnr_equals_that_of_bytes():
    a, b = torch.randint(0, 256, (2, 1, 3, 8, 8)).double()
    bytes_psnr = 10 * torch.log10(255**2 / (a - b).square().mean())
    torch.testing.assert_close(psnr(a / 127.5 - 1, b / 127.5 - 1)[0], bytes_psnr)


def test_a_soft_mask_is_a_weighted_mean():
    a, b, mask = torch.rand(3, 8, 8), torch.rand(3, 8, 8), torch.rand(8, 8)
    positions = [(row, column) for row in range(8) for column in range(8)]
    for module, size in ((L1(), abs), (L2(), lambda x: x * x)):
        weighted = sum(mask[at] * sum(size(a[c][at] - b[c][at]) for c in range(3)) / 3 for at in positions)
        found = module(a[None], b[None], mask[None, None])
        torch.testing.assert_close(found, (weighted / mask.sum())[None])
