"""EfficientNet-Lite0, which comes with an installed package: the default."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wplus.evaluation.extractors.preparation import check_bounds, in_colour, resize_protocol, resized
from wplus.images import to_float
from wplus.models.effnet_lite0 import WEIGHTS_FILE, load_effnet_lite0, weights_sha256


class EffNetLite0Features(nn.Module):
    """Pooled features (1280) before the classifier of EfficientNet-Lite0, ImageNet weights from an installed package.

    The net halves the size five times, so images below `min_px` are enlarged (at 32 px a single position would be left
    to average over); images above `max_px`, the size that the net was trained at, are reduced.
    """

    name = "effnet_lite0"
    dim = 1280

    def __init__(self, *, min_px: int = 64, max_px: int = 224) -> None:
        super().__init__()
        check_bounds(min_px, max_px)
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
            **resize_protocol(self.min_px, self.max_px),
        }

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), grey or RGB -> (N, 1280) float32."""
        return self.net.pooled(resized(to_float(in_colour(images)), min_px=self.min_px, max_px=self.max_px))

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Features (N, 1280) -> logits of the 1000 ImageNet classes (N, 1000), the classifier's bias included."""
        return self.net.classifier(features)
