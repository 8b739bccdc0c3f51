"""Noise maps: white after `white`, correlated ones are found, images do not mix."""

from __future__ import annotations

import torch

from wplus.inversion.noise import autocorrelation, white


def test_white_has_mean_zero_and_mean_square_one():
    maps = white(torch.rand(3, 1, 8, 8) * 5 + 2)
    torch.testing.assert_close(maps.mean(dim=(1, 2, 3)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(maps.square().mean(dim=(1, 2, 3)), torch.ones(3))
    torch.testing.assert_close(white(maps), maps)


def slow_autocorrelation(noise: torch.Tensor) -> float:
    """The regulariser of one map (r, r), pixel by pixel."""
    size, total = len(noise), 0.0
    across = sum(noise[i, j] * noise[i, j - 1] for i in range(size) for j in range(size)) / size**2
    down = sum(noise[i, j] * noise[i - 1, j] for i in range(size) for j in range(size)) / size**2
    total += across**2 + down**2
    if size <= 8:
        return total
    pooled = noise.view(size // 2, 2, size // 2, 2).mean(dim=(1, 3))
    return total + slow_autocorrelation(pooled)


def test_autocorrelation_is_the_sum_over_pixels_and_sizes():
    noise = [torch.randn(2, 1, 4, 4), torch.randn(2, 1, 16, 16)]
    expected = [sum(slow_autocorrelation(layer[i, 0]) for layer in noise) for i in range(2)]
    torch.testing.assert_close(autocorrelation(noise), torch.stack(expected))


def test_images_do_not_mix():
    # Averaged over the batch before squaring, two opposite maps would hide each other's structure.
    stripes = torch.tensor([1.0, -1.0]).repeat(8).expand(16, 16)
    smooth = torch.ones(16, 16)
    noise = [torch.stack([stripes, smooth])[:, None]]
    together = autocorrelation(noise)
    alone = torch.cat([autocorrelation([noise[0][i : i + 1]]) for i in range(2)])
    torch.testing.assert_close(together, alone)
    assert (together > 0.5).all()
