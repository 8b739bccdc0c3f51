"""Structural similarity of images, at one or several scales, as distances: 1 - SSIM and 1 - MS-SSIM.

SSIM: Wang et al. 2004; MS-SSIM: Wang, Simoncelli & Bovik 2003. The torchmetrics versions, which the tests compare with,
do not support masks, lose the variances to rounding on a GPU (TF32 convolutions), have no finite gradient if a scale's
similarity is negative, and include windows padded by reflection at the coarsest scale.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError, check_choice
from wplus.losses.image_pair import SMALLEST_AREA, ImageDistance, mean_over
from wplus.losses.pixel import DATA_RANGE

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # fine to coarse, as published
WINDOW, SIGMA = 11, 1.5  # px
C1, C2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
FLOOR = 0.01  # lower bound on a scale's similarity, see `_power`


class MSSSIM(ImageDistance):
    """`ms_ssim`: 1 - MS-SSIM, the product over scales of contrast and structure, including luminance at the last scale.

    The number of scales depends on the image size (5 from 176 px, 4 from 88, 3 from 44, 2 from 22, 1 from 11), with the
    published weights of these scales normalised to sum to 1. `scales` fixes the number and adds it to the name.

    With a mask, a window's statistics are weighted by the mask, and windows are weighted by the fraction that the mask
    covers, so pixels outside have no influence.
    """

    info = MetricInfo(
        meaning="1 minus the structural similarity of two images, over several scales for MS-SSIM; 0 for equal images.",
        direction="lower",
    )
    similarity = MetricInfo(
        meaning="Structural similarity of two images, over several scales for MS-SSIM; 1 for equal images.",
        direction="higher",
    )

    window: Tensor

    def __init__(self, *, scales: int | None = None) -> None:
        if scales is not None:
            check_choice("scales", scales, range(1, len(SCALE_WEIGHTS) + 1))
        super().__init__()
        self.name = "ms_ssim" if scales is None else f"ms_ssim_{scales}scales"
        self.scales = scales
        steps = ", ".join(f"{num} from {smallest_size(num)} px" for num in range(len(SCALE_WEIGHTS), 0, -1))
        offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
        window = torch.exp(-offsets.square() / (2 * SIGMA**2))
        self.register_buffer("window", (window / window.sum()).float(), persistent=False)  # along one axis, sums to 1
        self.freeze(
            scales=scales or steps,
            weights=f"{SCALE_WEIGHTS}, those of the scales used divided by their sum",
            window=f"Gaussian, {WINDOW} px, sigma {SIGMA}, inside the image",
            range="pixels in [-1, 1], K 0.01 and 0.03",
            floor=f"of several scales, a similarity s below {FLOOR} counts as {FLOOR}^2 / ({2 * FLOOR} - s)",
        )

    def features(self, images: Tensor) -> list[Tensor]:
        """The images (N, C, R, R) themselves; UserError if they are too small."""
        self.num_scales(min(images.shape[2:]))
        return [images]

    def num_scales(self, size: int) -> int:
        """Number of scales at which images of `size` px are compared; UserError if they are too small."""
        if size < smallest_size(self.scales or 1):
            raise UserError(f"{self.name} needs images of at least {smallest_size(self.scales or 1)} px, got {size}.")
        return self.scales or min(int(math.log2(size / WINDOW)) + 1, len(SCALE_WEIGHTS))

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Distances (N,) from 0 to 1, or from 0 to 2 for a single scale."""
        (a,), (b,) = features_a, features_b
        weights = SCALE_WEIGHTS[: self.num_scales(min(a.shape[2:]))]
        similarities = []
        for scale, weight in enumerate(weights):
            if scale > 0:
                a, b, mask = _halved(a, mask), _halved(b, mask), None if mask is None else F.avg_pool2d(mask, 2)
            similarity = self._similarity(a, b, mask, with_luminance=scale == len(weights) - 1)
            similarities.append(_power(similarity, weight / sum(weights)))
        return 1 - torch.stack(similarities).prod(dim=0)

    def _similarity(self, a: Tensor, b: Tensor, mask: Tensor | None, *, with_luminance: bool) -> Tensor:
        """Mean over windows of contrast times structure, optionally times luminance: (N,), from -1 to 1."""
        a, b = torch.broadcast_tensors(a, b)
        maps = torch.stack([a, b, a.square(), b.square(), a * b])
        if mask is None:
            area, means = None, self._blurred(maps)
        else:
            area = self._blurred(mask)
            means = self._blurred(maps * mask) / area.clamp_min(SMALLEST_AREA)
        mean_a, mean_b, square_a, square_b, product = means
        variances = (square_a - mean_a.square()) + (square_b - mean_b.square())  # exactly 2 var(a) for equal images
        similar = (2 * (product - mean_a * mean_b) + C2) / (variances + C2)
        if with_luminance:
            similar = similar * (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
        return 1 - mean_over((1 - similar).mean(dim=1), area)  # an empty mask: similarity 1

    def _blurred(self, x: Tensor) -> Tensor:
        """Gaussian means over windows inside the image, by banded matrices: (..., H, W) -> (..., H - 10, W - 10).

        Takes a third of the time of convolutions at 64 px on a CPU, and is exact on a GPU, where they use TF32.
        """
        rows, columns = (_banded(self.window.to(x.dtype), side) for side in x.shape[-2:])
        return rows @ x @ columns.T


class SSIM(MSSSIM):
    """`ssim`: 1 - SSIM, at the images' own resolution only; masks work as in MS-SSIM."""

    def __init__(self) -> None:
        super().__init__(scales=1)
        self.name = "ssim"
        self.provenance = {**self.provenance, "name": self.name}


def smallest_size(scales: int) -> int:
    """Smallest image size in pixels for which a window fits into the coarsest of `scales` scales."""
    return WINDOW * 2 ** (scales - 1)


def _power(similarity: Tensor, exponent: float) -> Tensor:
    """similarity ** exponent, with similarities below FLOOR kept positive by a hyperbola that continues the slope.

    Negative similarities have no real power, and clamping would leave very different images without a gradient.
    """
    if exponent == 1:
        return similarity
    kept = FLOOR**2 / (2 * FLOOR - similarity.clamp_max(FLOOR))
    return torch.where(similarity < FLOOR, kept, similarity) ** exponent


def _banded(window: Tensor, size: int) -> Tensor:
    """Matrix (size - 10, size) that computes the weighted mean over every window along an axis."""
    offsets = torch.arange(size, device=window.device) - torch.arange(size - WINDOW + 1, device=window.device)[:, None]
    inside = (offsets >= 0) & (offsets < WINDOW)
    return torch.where(inside, window[offsets.clamp(0, WINDOW - 1)], 0)


def _halved(x: Tensor, mask: Tensor | None) -> Tensor:
    """Downsample images by 2, averaging blocks of four pixels weighted by the mask."""
    if mask is None:
        return F.avg_pool2d(x, 2)
    return F.avg_pool2d(x * mask, 2) / F.avg_pool2d(mask, 2).clamp_min(SMALLEST_AREA)
