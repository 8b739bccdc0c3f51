"""Common interface of losses that compare two images: features of each image, and one distance per pair from them.

A mask selects where images are compared. Distances are weighted means over positions, so their scale does not depend on
the area of the mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError

SMALLEST_AREA = 1e-12  # of a mask: far below one faint pixel, so that an empty mask gives 0 rather than NaN


class ImageDistance(nn.Module):
    """Distance between two images (N, C, R, R) in [-1, 1]; 0 for equal images, differentiable in both.

    Subclasses implement `features` and `distance`. The features of a fixed target can be computed once and reused.
    Images of a batch are independent of each other.
    """

    name: str
    provenance: Mapping[str, Any]  # recorded with stored values: weights file and hash, layers, input size
    info: MetricInfo
    similarity: MetricInfo | None = None  # of 1 - distance, if papers report that instead, see `score`

    def features(self, images: Tensor) -> list[Tensor]:
        """Compute the features to compare from images (N, C, R, R): tensors (N, ...)."""
        raise NotImplementedError

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Compute distances (N,) from the images' features; either side may be a single image.

        `mask` (N or 1, 1, R, R) in [0, 1] is a soft weight per position; all ones, or None, weight positions equally.
        An empty mask gives 0. UserError if a distance has no positions to weight.
        """
        raise NotImplementedError

    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the distances (N,) of image pairs; either side may be a single image."""
        return self.distance(self.features(a), self.features(b), mask)

    def score(self, distances: Tensor) -> tuple[str, Tensor, MetricInfo]:
        """Name, values (N,) and meaning for a table: `similarity_NAME`, 1 - distance, if papers report that."""
        if self.similarity is None:
            return self.name, distances, self.info
        return f"similarity_{self.name}", 1 - distances, self.similarity

    def freeze(self, **provenance: Any) -> None:
        """Freeze all parameters and record `provenance` with the name; call it at the end of a constructor."""
        self.provenance = {"name": self.name, **provenance}
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> ImageDistance:
        """Stay in eval mode, even if a parent module switches to training mode."""
        return super().train(False)

    def _refuse(self, mask: Tensor | None) -> None:
        """Raise UserError if a mask is given, for distances of whole images."""
        if mask is not None:
            raise UserError(f"{self.name} compares whole images and takes no mask: give it the weight 0.")


def mean_over(maps: Tensor, mask: Tensor | None) -> Tensor:
    """Mean (N,) of maps (N, H, W) over positions, weighted by the mask (N or 1, 1, R, R) resized to the maps."""
    if mask is None:
        return maps.mean(dim=(1, 2))
    weights = resized_mask(mask, maps.shape[1:]).to(maps.dtype)
    return (maps * weights).sum(dim=(1, 2)) / weights.sum(dim=(1, 2)).clamp_min(SMALLEST_AREA)


def resized_mask(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a mask (N, 1, R, R) to (N, H, W): each position holds the fraction of its area covered by the mask."""
    return F.adaptive_avg_pool2d(mask, (size[0], size[1]))[:, 0]


def coloured(images: Tensor) -> Tensor:
    """Expand greyscale images (N, 1, R, R) to RGB (N, 3, R, R) for nets with colour input; others are unchanged."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
