"""Feature extractors: uint8 images in, feature vectors out, with everything that a protocol must say about them.

An extractor is a module with `.name`, `.dim`, `.protocol` (plain values) and `forward(images uint8 (N, C, H, W)) ->
(N, dim)`. Its name is part of the name of every number that it gives.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.errors import UserError
from wplus.images import to_float
from wplus.models.effnet_lite0 import WEIGHTS_FILE, load_effnet_lite0, weights_sha256


def resized(images: Tensor, *, min_px: int, max_px: int) -> Tensor:
    """Float images (N, C, H, W) with the shorter side brought into [min_px, max_px]: bilinear, antialiased when shrunk.

    Images that are within the bounds stay as they are.
    """
    shorter = min(images.shape[2:])
    target = min(max(shorter, min_px), max_px)
    if shorter == target:
        return images
    size = [round(side * target / shorter) for side in images.shape[2:]]
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=target < shorter)


class EffNetLite0Features(nn.Module):
    """Pooled features (1280) before the classifier of EfficientNet-Lite0, ImageNet weights from an installed package.

    The net halves the size five times, so images below `min_px` are enlarged (at 32 px a single position would be left
    to average over); images above `max_px`, the size that the net was trained at, are reduced.
    """

    name = "effnet_lite0"
    dim = 1280

    def __init__(self, *, min_px: int = 64, max_px: int = 224) -> None:
        super().__init__()
        if not 32 <= min_px <= max_px:
            raise UserError(f"Extractor sizes from {min_px} to {max_px} px are not allowed; 32 <= min_px <= max_px.")
        self.min_px, self.max_px = min_px, max_px
        self.net = load_effnet_lite0()

    @property
    def protocol(self) -> dict[str, Any]:
        """Name, weights file and its SHA-256, layer, input size and resize."""
        return {
            "extractor": self.name,
            "extractor_layer": "pooled features before the classifier",
            "extractor_weights": WEIGHTS_FILE,
            "extractor_sha256": weights_sha256(),
            "extractor_input": f"shorter side brought into {self.min_px}..{self.max_px} px",
            "resize": "bilinear, antialiased when shrunk, in float after uint8 rounding",
        }

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), grey or RGB -> (N, 1280) float32."""
        images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]
        return self.net.pooled(resized(to_float(images), min_px=self.min_px, max_px=self.max_px))
