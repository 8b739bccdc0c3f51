"""SqueezeNet 1.1, a third net with weights from an installed package: small and fast, another architecture."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from wplus.adapters.restricted import read_restricted
from wplus.errors import UserError
from wplus.models.layers import outputs_at
from wplus.pretrained.extractor import PackageExtractor, in_colour, resized
from wplus.pretrained.weights import load_into

BGR_MEAN = (103.939, 116.779, 123.68)  # of pixels in [0, 255], as for Caffe models
FIRES = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}  # number of a fire module -> its place in torchvision's net
PARTS = {"squeeze1x1": "squeeze", "expand1x1": "expand1x1", "expand3x3": "expand3x3"}  # theirs -> torchvision's
NAMES = {"conv1": "0"} | {f"fire{n}/{part}": f"{at}.{ours}" for n, at in FIRES.items() for part, ours in PARTS.items()}


class SqueezeNetFeatures(PackageExtractor):
    """Pooled features (512) of SqueezeNet 1.1 (Iandola et al. 2016, arXiv:1602.07360), ImageNet weights from a package.

    The weights file is a pickle, from which only plain arrays are loaded.
    """

    name = "squeezenet"
    dim = 512
    layer = "pooled output of the last fire module"
    file = ("ndf", "example_models", "weights", "squeezenet_weights.pkl")
    map_channels, map_strides = (128, 256, 512), (4, 8, 16)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), grey or RGB -> (N, 512) float32."""
        seen = resized(in_colour(images).float(), min_px=self.min_px, max_px=self.max_px)
        return self.net(_prepared(seen)).mean(dim=(2, 3))

    def maps(self, images: Tensor) -> list[Tensor]:
        """Outputs of the last fire module of each stride."""
        return outputs_at(self.net, _prepared((images + 1) * 127.5), (4, 7, 12))

    def network(self, path: Path) -> nn.Module:
        """torchvision's convolutions, (N, 3, H, W) -> (N, 512, about H/16, W/16), kernels stored as (H, W, in, out)."""
        net = squeezenet1_1(weights=None).features
        for pooling in (2, 5, 8):
            net[pooling].ceil_mode = False  # as in the file's net
        layers = read_restricted(path)
        if not isinstance(layers, dict) or not NAMES.keys() <= layers.keys():
            raise UserError(f"'{path}' is not the weights file of {self.file[0]}: it must hold {len(NAMES)} layers.")
        state: dict[str, Tensor] = {}
        for theirs, ours in NAMES.items():
            kernel, bias = (torch.from_numpy(np.array(part, dtype=np.float32)) for part in layers[theirs])
            state |= {f"{ours}.weight": kernel.permute(3, 2, 0, 1).contiguous(), f"{ours}.bias": bias}
        return load_into(net, state, path)


def _prepared(pixels: Tensor) -> Tensor:
    """RGB in 0..255 (N, 3, H, W) -> BGR, mean subtracted, padded for the first convolution."""
    seen = pixels.flip(1) - pixels.new_tensor(BGR_MEAN).view(1, 3, 1, 1)
    # TensorFlow's "same" padding of a strided 3x3 convolution: for even sizes, only at the bottom and right.
    top, left = (size % 2 for size in seen.shape[2:])
    return F.pad(seen, (left, 1, top, 1))
