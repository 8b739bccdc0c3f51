"""What things are painted with, wherever they are: second-order statistics of a net's features."""

from __future__ import annotations

from torch import Tensor

from wplus.losses.image_pair import SMALLEST_AREA, ImageDistance, resized_mask
from wplus.losses.perceptual import PerceptualDistance


class Style(ImageDistance):
    """`style_` and the net's name: squared difference of Gram matrices, summed over layers (Gatys et al. 2016).

    Features have unit length at every position, so that each Gram matrix has the trace 1 and the layers weigh alike.
    Under a mask the statistics are those of the positions under it, each weighted by it.
    """

    def __init__(self, net: PerceptualDistance) -> None:
        super().__init__()
        self.net = net
        self.name = f"style_{net.name}"
        self.provenance = {**net.provenance, "name": self.name, "statistics": "Gram matrices of unit-length features"}
        self.eval()

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-length feature maps, one per layer: (N, C_l, H_l, W_l)."""
        return self.net.features(images)

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Distances (N,), from 0 to 2 per layer."""
        pairs = zip(features_a, features_b, strict=True)
        return sum((_gram(a, mask) - _gram(b, mask)).square().sum(dim=(1, 2)) for a, b in pairs)


def _gram(maps: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of f f^T over positions, weighted by the mask: (N, C, H, W) -> (N, C, C)."""
    features = maps.flatten(2)
    if mask is None:
        return features @ features.transpose(1, 2) / features.shape[2]
    weights = resized_mask(mask, maps.shape[2:]).flatten(1).to(maps.dtype)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(SMALLEST_AREA)
    return (features * weights[:, None]) @ features.transpose(1, 2)
