"""Pixel-wise distances between images (N, C, H, W) in [-1, 1]: one number per image."""

from collections.abc import Callable

import torch
from torch import Tensor

from wplus.core.metric_result import MetricInfo
from wplus.losses.image_pair import ImageDistance, mean_over

DATA_RANGE = 2.0  # from -1 to 1
MAX_PSNR_DB = 100.0
PSNR = MetricInfo(
    meaning="Peak signal-to-noise ratio, 10 log10(4 / l2): a logarithmic pixel error; 100 for equal images.",
    unit="dB",
    direction="higher",
)


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference per image: (N,), from 0 to 2."""
    return (a - b).abs().mean(dim=(1, 2, 3))


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference per image: (N,), from 0 to 4."""
    return (a - b).square().mean(dim=(1, 2, 3))


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio per image in dB: (N,), 10 log10(range^2 / mse) with range 2 for [-1, 1], capped at 100
    so that equal images have a finite score."""
    from torchmetrics.functional.image import peak_signal_noise_ratio  # takes seconds to import

    decibels = peak_signal_noise_ratio(a, b, data_range=DATA_RANGE, reduction="none", dim=(1, 2, 3))
    return decibels.clamp_max(MAX_PSNR_DB)


def psnr_of(mse: Tensor) -> Tensor:
    """Like `psnr`, from mean squared differences (N,), which may cover only part of the image."""
    return (10 * torch.log10(DATA_RANGE**2 / mse)).clamp_max(MAX_PSNR_DB)


class PixelDistance(ImageDistance):
    """Mean over pixels and channels of a function of the differences, weighted by the mask if there is one."""

    measure: Callable[[Tensor], Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.freeze(range="pixels in [-1, 1]")

    def features(self, images: Tensor) -> list[Tensor]:
        """The images (N, C, R, R) themselves."""
        return [images]

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Distances (N,), from 0 to 2 for `l1` and from 0 to 4 for `l2`."""
        differences = self.measure(features_a[0] - features_b[0])
        return differences.mean(dim=(1, 2, 3)) if mask is None else mean_over(differences.mean(dim=1), mask)


class L1(PixelDistance):
    """`l1`: mean absolute difference."""

    name, measure = "l1", staticmethod(torch.abs)
    info = MetricInfo(
        meaning="Mean absolute difference of the pixels, values in [-1, 1]; 0 for equal images.", direction="lower"
    )


class L2(PixelDistance):
    """`l2`: mean squared difference."""

    name, measure = "l2", staticmethod(torch.square)
    info = MetricInfo(
        meaning="Mean squared difference of the pixels, values in [-1, 1]; 0 for equal images.", direction="lower"
    )
