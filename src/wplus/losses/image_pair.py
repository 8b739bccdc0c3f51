"""The one interface of losses that compare two images: features of each, and a number per image from the features.

A mask says where images are compared. It is a weighted mean over positions, so a term's size does not depend on how
much of the image the mask leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError

SMALLEST_AREA = 1e-12  # of a mask: far below one faint pixel, so that an empty mask gives 0 and not NaN


class ImageDistance(nn.Module):
    """How far apart two images are: (N, C, R, R) in [-1, 1], 0 for equal ones, differentiable in both.

    A subclass implements `features` and `distance`. The features of a fixed target can be computed once and compared
    many times. Images of a batch never mix.
    """

    name: str
    provenance: Mapping[str, Any]  # what a stored number must say: weights file and hash, layers, input size
    info: MetricInfo
    similarity: MetricInfo | None = None  # of 1 - distance, where that is the number that papers print, see `score`

    def features(self, images: Tensor) -> list[Tensor]:
        """What of the images (N, C, R, R) is compared: tensors (N, ...)."""
        raise NotImplementedError

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Distances (N,) of images whose features are given; either side may hold a single image.

        `mask` (N or 1, 1, R, R) in [0, 1], soft, is the weight of each position; ones, and None, weigh all the same.
        Under an empty mask it is 0. UserError where a distance has no positions to weigh.
        """
        raise NotImplementedError

    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """Distances (N,) of the image pairs; either side may hold a single image."""
        return self.distance(self.features(a), self.features(b), mask)

    def score(self, distances: Tensor) -> tuple[str, Tensor, MetricInfo]:
        """Name, values (N,) and meaning for a table: `similarity_NAME`, 1 - distance, where papers print that."""
        if self.similarity is None:
            return self.name, distances, self.info
        return f"similarity_{self.name}", 1 - distances, self.similarity

    def freeze(self, **provenance: Any) -> None:
        """For the end of a constructor: nothing here learns, and `provenance` is kept beside the name."""
        self.provenance = {"name": self.name, **provenance}
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> ImageDistance:
        """Stays in eval mode whatever the module that holds it does: this is a measuring instrument."""
        return super().train(False)

    def _refuse(self, mask: Tensor | None) -> None:
        """For distances of the whole image: UserError when there is a mask."""
        if mask is not None:
            raise UserError(f"{self.name} compares whole images and takes no mask: give it the weight 0.")


def mean_over(maps: Tensor, mask: Tensor | None) -> Tensor:
    """Mean (N,) of maps (N, H, W) over positions, weighted by the mask (N or 1, 1, R, R) at the maps' size."""
    if mask is None:
        return maps.mean(dim=(1, 2))
    weights = resized_mask(mask, maps.shape[1:]).to(maps.dtype)
    return (maps * weights).sum(dim=(1, 2)) / weights.sum(dim=(1, 2)).clamp_min(SMALLEST_AREA)


def resized_mask(mask: Tensor, size: Sequence[int]) -> Tensor:
    """A mask (N, 1, R, R) as (N, H, W): each position holds the share of its area that the mask covers."""
    return F.adaptive_avg_pool2d(mask, (size[0], size[1]))[:, 0]


def coloured(images: Tensor) -> Tensor:
    """Grey images (N, 1, R, R) as grey colours (N, 3, R, R), for nets that take colours; others as they are."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
