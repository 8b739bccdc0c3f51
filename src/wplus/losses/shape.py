"""Where things are, whatever they are painted with: the edges of blurred pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.losses.image_pair import ImageDistance, mean_over

SIZE = 64  # px; larger pictures are reduced to it, because shapes are coarse
BLUR = 1 / 32  # standard deviation of the Gaussian, in picture widths


class Shape(ImageDistance):
    """`shape`: mean squared difference of the gradients of blurred pictures, in units of a step per blur width.

    Of all channels: luminance alone does not see the edge between colours that are equally bright, such as an orange
    cat on grey.
    """

    name = "shape"

    def __init__(self) -> None:
        super().__init__()
        self.provenance = {"name": self.name, "blur": f"Gaussian, {BLUR} widths", "size": f"area to {SIZE} px at most"}
        self.eval()

    def features(self, images: Tensor) -> list[Tensor]:
        """Gradients (N, 2 C, r, r), r at most 64: differences to the right, then downwards, 0 at the last pixel."""
        if images.shape[-1] > SIZE:
            images = F.interpolate(images, size=(SIZE, SIZE), mode="area")
        width = BLUR * images.shape[-1]
        smooth = _blurred(images, width)
        right = F.pad(smooth.diff(dim=3), (0, 1))
        down = F.pad(smooth.diff(dim=2), (0, 0, 0, 1))
        return [torch.cat([right, down], dim=1) * width]

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Distances (N,); under a mask a gradient counts by the mask at its place."""
        (a,), (b,) = features_a, features_b
        return mean_over((a - b).square().mean(dim=1), mask)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur (N, C, H, W) of the same size; pictures go on beyond their border as they end there."""
    reach = max(1, round(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    window = torch.exp(-offsets.square() / (2 * sigma**2))
    window = (window / window.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, window, groups=images.shape[1])
    return F.conv2d(rows, window.transpose(2, 3), groups=images.shape[1])
