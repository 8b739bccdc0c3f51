"""Measures of translators' faults against closed forms."""

import pytest
import torch

from wplus.losses.translation_faults import change, correlation, jpeg, noisy, nyquist_power, nyquist_ratio


def test_change_and_correlation():
    images = torch.rand(3, 3, 8, 8) - 0.5
    assert torch.equal(change(images, images), torch.zeros(3))
    torch.testing.assert_close(
        change(images[:, :1], images[:, :1].expand(-1, 3, -1, -1) + 0.25), torch.full((3,), 0.25)
    )
    torch.testing.assert_close(correlation(images, 0.3 * images + 0.1).float(), torch.ones(3))
    torch.testing.assert_close(correlation(images, -2 * images).float(), -torch.ones(3))
    assert torch.equal(correlation(images, torch.zeros_like(images)), torch.zeros(3, dtype=torch.float64))
    flat = torch.stack([images.flatten(2), torch.rand(3, 3, 64)])
    expected = torch.stack([torch.corrcoef(flat[:, n, c])[0, 1] for n in range(3) for c in range(3)]).view(3, 3).mean(1)
    torch.testing.assert_close(correlation(images, flat[1].view_as(images)).float(), expected)


@pytest.mark.parametrize("wave", ["rows", "columns", "both"])
def test_nyquist_is_the_highest_frequency_of_the_spectrum(wave):
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    pattern = 0.5 * (-1.0) ** {"rows": y, "columns": x, "both": x + y}[wave]
    smooth = torch.rand(2, 3, 8, 8)
    spectrum = torch.fft.fft2((smooth + pattern).double()).abs().square() / 64**2
    places = spectrum[..., 4, 0] + spectrum[..., 0, 4] + spectrum[..., 4, 4]
    torch.testing.assert_close(nyquist_power(smooth + pattern), places.sum(dim=1))
    torch.testing.assert_close(nyquist_power(pattern.expand(1, 3, 8, 8)), torch.tensor([0.75], dtype=torch.float64))
    assert nyquist_ratio(smooth + pattern, smooth) > 10
    assert nyquist_ratio(smooth, smooth) == pytest.approx(1)


def test_what_is_done_to_the_image_between():
    images = torch.zeros(2, 3, 64, 64) + 0.3
    assert float(noisy(images).std()) == pytest.approx(0.05, rel=0.1)
    assert torch.equal(noisy(images), noisy(images))
    assert (jpeg(images) - images).abs().max() < 0.02
    assert (jpeg(images[:, :1]) - images[:, :1]).abs().max() < 0.02
    fine = 0.02 * torch.randn(2, 3, 64, 64)
    assert (jpeg(fine) - fine).abs().mean() > 0.008
