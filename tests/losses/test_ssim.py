"""SSIM and MS-SSIM against torchmetrics where both are defined, and the fallback where only one is."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from wplus.errors import UserError
from wplus.losses.ssim import MSSSIM, SCALE_WEIGHTS, SSIM, WINDOW


def noisy_pair(num: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth pictures and the same with noise: (num, 3, size, size) in [-1, 1]."""
    a = F.interpolate(torch.rand(num, 3, size // 4, size // 4) * 2 - 1, size=size, mode="bicubic").clamp(-1, 1)
    return a, (a + 0.2 * torch.randn_like(a)).clamp(-1, 1)


def reference_parts(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """torchmetrics' SSIM, its map cut to the windows inside the image, and its contrast term: (N,) each."""
    reach, of_pair = WINDOW // 2, partial(structural_similarity_index_measure, a, b, data_range=2.0, reduction="none")
    (_, full), (_, contrast) = of_pair(return_full_image=True), of_pair(return_contrast_sensitivity=True)
    return full[..., reach:-reach, reach:-reach].mean(dim=(1, 2, 3)), contrast


@pytest.mark.parametrize(("size", "scales"), [(12, 1), (32, 2), (65, 3), (91, 4), (176, 5)])
def test_ms_ssim_is_the_product_of_torchmetrics_parts(size, scales):
    a, b = noisy_pair(2, size)
    torch.testing.assert_close(1 - SSIM()(a, b), reference_parts(a, b)[0], atol=1e-5, rtol=1e-5)
    expected, exponents = torch.ones(2), torch.tensor(SCALE_WEIGHTS[:scales])
    exponents = exponents / exponents.sum()
    x, y = a, b
    for scale in range(scales):
        ssim, contrast = reference_parts(x, y)
        expected *= (ssim if scale == scales - 1 else contrast) ** exponents[scale]
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    torch.testing.assert_close(1 - MSSSIM()(a, b), expected, atol=1e-5, rtol=1e-4)


def test_ms_ssim_is_that_of_torchmetrics_where_borders_are_few():
    """At the coarsest scale torchmetrics counts windows that a reflected border fills: 4 % of them at 512 px."""
    a, b = noisy_pair(2, 512)
    theirs = multiscale_structural_similarity_index_measure(a, b, data_range=2.0, reduction="none")
    torch.testing.assert_close(MSSSIM()(a, b), 1 - theirs, atol=1e-3, rtol=0)
    assert MSSSIM()(a, b).min() > 0.01


def test_flat_images_differ_by_luminance_alone():
    """In float64: in float32 the variances, differences of squares, are no closer to 0 than their rounding."""
    a, b = torch.tensor([0.2, 0.6], dtype=torch.float64).view(2, 1, 1, 1, 1).expand(-1, 1, 1, 16, 16)
    luminance = (2 * 0.2 * 0.6 + 0.02**2) / (0.2**2 + 0.6**2 + 0.02**2)
    assert SSIM()(a, b).item() == pytest.approx(1 - luminance, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "scales"), [(11, 1), (21, 1), (22, 2), (43, 2), (44, 3), (87, 3), (88, 4), (175, 4), (176, 5), (1024, 5)]
)
def test_as_many_scales_as_there_are_windows_for(size, scales):
    """Or as many as requested, which is then part of the name."""
    assert MSSSIM().num_scales(size) == scales
    assert size // 2 ** (scales - 1) >= WINDOW
    assert (MSSSIM(scales=scales).name, MSSSIM(scales=scales).num_scales(1024)) == (f"ms_ssim_{scales}scales", scales)


@pytest.mark.parametrize(("make", "size", "message"), [
    (MSSSIM, 10, "^ms_ssim needs .* 11 px, got 10"), (SSIM, 8, "^ssim needs .* 11 px, got 8"),
    (lambda: MSSSIM(scales=3), 43, "44 px, got 43"), (lambda: MSSSIM(scales=6), 43, "scales must be .*, got 6"),
])  # fmt: skip
def test_what_is_not_defined_is_refused(make, size, message):
    with pytest.raises(UserError, match=message):
        make()(torch.zeros(1, 3, size, size), torch.zeros(1, 3, size, size))


def test_inverted_contrast_is_not_a_dead_end():
    """Contrast and structure are negative at every scale, where the published formula has no value."""
    a = noisy_pair(2, 32)[0] * 0.3 + 0.5
    b = (1 - a).clone().requires_grad_()
    optimizer = torch.optim.Adam([b], lr=0.02)
    assert ((MSSSIM()(a, b) > 0.999) & (MSSSIM()(a, b) < 1)).all()
    for _ in range(40):
        optimizer.zero_grad()
        MSSSIM()(a, b).sum().backward()
        optimizer.step()
    assert (MSSSIM()(a, b) < 0.2).all()


def test_a_mask_is_a_loop_over_windows_of_its_pixels():
    a, b, mask = *(torch.rand(2, 14, 14, dtype=torch.float64) * 2 - 1), torch.rand(14, 14, dtype=torch.float64)
    mask[:6, :9] = 0
    offsets = torch.arange(11, dtype=torch.float64) - 5
    gaussian = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    total, area = 0.0, 0.0
    for y in range(4):
        for x in range(4):
            p, q, weight = (image[y : y + 11, x : x + 11] for image in (a, b, mask))
            weight = gaussian / gaussian.sum() * weight
            mean_p, mean_q = (p * weight).sum() / weight.sum(), (q * weight).sum() / weight.sum()
            p, q, share = p - mean_p, q - mean_q, weight / weight.sum()
            luminance = (2 * mean_p * mean_q + 0.02**2) / (mean_p**2 + mean_q**2 + 0.02**2)
            contrast = (2 * (p * q * share).sum() + 0.06**2) / ((p**2 * share).sum() + (q**2 * share).sum() + 0.06**2)
            total += weight.sum() * luminance * contrast
            area += weight.sum()
    found = SSIM()(a[None, None], b[None, None], mask[None, None])
    torch.testing.assert_close(found, (1 - total / area)[None], atol=1e-6, rtol=1e-6)
