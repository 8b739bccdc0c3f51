"""Separate distances for shape and style: edges of blurred images, and Gram matrices of features."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.core.metric_result import MetricInfo
from wplus.losses.image_pair import SMALLEST_AREA, ImageDistance, mean_over, resized_mask
from wplus.losses.perceptual import PerceptualDistance

SIZE = 64  # px; larger images are downsampled to it, because shapes are coarse
BLUR = 1 / 32  # standard deviation of the Gaussian, as a fraction of the image width


class Shape(ImageDistance):
    """`shape`: mean squared difference of the gradients of blurred images, in units of a step per blur width; over all
    channels, because luminance alone misses edges between equally bright colours."""

    name = "shape"
    info = MetricInfo(
        meaning="Mean squared difference of the gradients of blurred images, i.e. of edges; 0 for equal images.",
        direction="lower",
    )

    def __init__(self) -> None:
        super().__init__()
        self.freeze(blur=f"Gaussian, {BLUR} widths", size=f"area to {SIZE} px at most")

    def features(self, images: Tensor) -> list[Tensor]:
        """Gradients (N, 2 C, r, r), r at most 64: horizontal, then vertical forward differences, 0 at the end."""
        if images.shape[-1] > SIZE:
            images = F.interpolate(images, size=(SIZE, SIZE), mode="area")
        width = BLUR * images.shape[-1]
        smooth = _blurred(images, width)
        right, down = F.pad(smooth.diff(dim=3), (0, 1)), F.pad(smooth.diff(dim=2), (0, 0, 0, 1))
        return [torch.cat([right, down], dim=1) * width]

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Distances (N,); gradients are weighted by the mask at their position."""
        (a,), (b,) = features_a, features_b
        return mean_over((a - b).square().mean(dim=1), mask)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur (N, C, H, W) of the same size, with border pixels replicated beyond the border."""
    reach = max(1, round(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    window = torch.exp(-offsets.square() / (2 * sigma**2))
    window = (window / window.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, window, groups=images.shape[1])
    return F.conv2d(rows, window.transpose(2, 3), groups=images.shape[1])


class Style(ImageDistance):
    """`style_` and the net's name: squared difference of Gram matrices, summed over layers (Gatys et al. 2016).

    Features have unit length at every position, so each Gram matrix has trace 1 and layers are weighted equally. With a
    mask, positions are weighted by it.
    """

    info = MetricInfo(
        meaning="Squared difference of the Gram matrices of a pretrained net's features, i.e. of style regardless of "
        "position; 0 for equal images.", direction="lower",
    )  # fmt: skip

    def __init__(self, net: PerceptualDistance) -> None:
        super().__init__()
        self.net = net
        self.name = f"style_{net.name}"
        self.freeze(**{**net.provenance, "name": self.name, "statistics": "Gram matrices of unit-length features"})

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-length feature maps, one per layer: (N, C_l, H_l, W_l)."""
        return self.net.features(images)

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Distances (N,), from 0 to 2 per layer."""
        pairs = zip(features_a, features_b, strict=True)
        layers = [(_gram(a, mask) - _gram(b, mask)).square().sum(dim=(1, 2)) for a, b in pairs]
        return functools.reduce(torch.add, layers)


def _gram(maps: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of f f^T over positions, weighted by the mask: (N, C, H, W) -> (N, C, C)."""
    features = maps.flatten(2)
    if mask is None:
        return features @ features.transpose(1, 2) / features.shape[2]
    weights = resized_mask(mask, maps.shape[2:]).flatten(1).to(maps.dtype)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(SMALLEST_AREA)
    return (features * weights[:, None]) @ features.transpose(1, 2)
