"""EfficientNet-Lite0, which comes with an installed package: the default."""

from __future__ import annotations

import torch
from torch import Tensor

from wplus.core.images import to_float
from wplus.pretrained.effnet_lite0 import WEIGHTS_FILE, load_effnet_lite0, weights_sha256
from wplus.pretrained.extractor import Extractor
from wplus.pretrained.preprocessing import in_colour, resize_protocol, resized


class EffNetLite0Features(Extractor):
    """Pooled features (1280) before the classifier of EfficientNet-Lite0, ImageNet weights from an installed package.

    The net halves the size five times, so images below `min_px` are enlarged (at 32 px a single position would be left
    to average over); images above `max_px`, the size that the net was trained at, are reduced.
    """

    name = "effnet_lite0"
    dim = 1280
    layer = "pooled features before the classifier"

    def __init__(self, *, min_px: int = 64, max_px: int = 224) -> None:
        prepared = resize_protocol(min_px, max_px)
        super().__init__(weights=WEIGHTS_FILE, sha256=weights_sha256(), preparation=prepared)
        self.min_px, self.max_px = min_px, max_px
        self.net = load_effnet_lite0()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), grey or RGB -> (N, 1280) float32."""
        return self.net.pooled(resized(to_float(in_colour(images)), min_px=self.min_px, max_px=self.max_px))

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Features (N, 1280) -> logits of the 1000 ImageNet classes (N, 1000), the classifier's bias included."""
        return self.net.classifier(features)
