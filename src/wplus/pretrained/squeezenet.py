"""SqueezeNet 1.1, a small third net whose weights come with a package: quick, and of yet another making."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from wplus.adapters.restricted import read_restricted
from wplus.core.files import sha256
from wplus.errors import UserError
from wplus.pretrained.extractor import Extractor, in_colour, resize_protocol, resized
from wplus.pretrained.weights import from_package, load_into

PACKAGE = "ndf"
FILE = "squeezenet_weights.pkl"
BGR_MEAN = (103.939, 116.779, 123.68)  # of pixels in [0, 255], as for Caffe's nets
FIRES = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}  # number of a fire module -> its place in torchvision's net
PARTS = {"squeeze1x1": "squeeze", "expand1x1": "expand1x1", "expand3x3": "expand3x3"}  # theirs -> torchvision's


class SqueezeNetFeatures(Extractor):
    """Pooled features (512) of SqueezeNet 1.1 (Iandola et al. 2016, arXiv:1602.07360), ImageNet weights from a package.

    Sizes are handled as for EfficientNet-Lite0: images below `min_px` are enlarged, above `max_px` reduced. Of the
    package only the weights file is read, and of that, a pickle, only plain arrays.
    """

    name = "squeezenet"
    dim = 512
    layer = "pooled output of the last fire module"

    def __init__(self, *, min_px: int = 64, max_px: int = 224) -> None:
        prepared = resize_protocol(min_px, max_px)
        path = from_package(PACKAGE, "example_models", "weights", FILE)
        super().__init__(weights=FILE, sha256=sha256(path), preparation=prepared)
        self.min_px, self.max_px = min_px, max_px
        self.net = _network(path)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), grey or RGB -> (N, 512) float32."""
        seen = resized(in_colour(images).float(), min_px=self.min_px, max_px=self.max_px)
        seen = seen.flip(1) - seen.new_tensor(BGR_MEAN).view(1, 3, 1, 1)
        # TensorFlow's "same" padding of a strided 3x3 convolution: where the size is even, at the far side alone.
        top, left = (size % 2 for size in seen.shape[2:])
        return self.net(F.pad(seen, (left, 1, top, 1))).mean(dim=(2, 3))


def _network(path: Path) -> nn.Module:
    """torchvision's convolutions, (N, 3, H, W) -> (N, 512, about H/16, W/16), with the weights of the file."""
    net = squeezenet1_1(weights=None).features
    for pooling in (2, 5, 8):
        net[pooling].ceil_mode = False  # as the file's net has it
    load_into(net, _state(path), path)
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _state(path: Path) -> dict[str, Tensor]:
    """The file's layers, name -> [kernel (H, W, in, out), bias], under torchvision's names and shapes."""
    names = {"conv1": "0"}
    names |= {f"fire{n}/{part}": f"{at}.{ours}" for n, at in FIRES.items() for part, ours in PARTS.items()}
    layers = read_restricted(path)
    if not isinstance(layers, dict) or not names.keys() <= layers.keys():
        raise UserError(f"'{path}' is not the weights file of {PACKAGE}: it must hold {len(names)} named layers.")
    state: dict[str, Tensor] = {}
    for theirs, ours in names.items():
        kernel, bias = (torch.from_numpy(np.array(part, dtype=np.float32)) for part in layers[theirs])
        state |= {f"{ours}.weight": kernel.permute(3, 2, 0, 1).contiguous(), f"{ours}.bias": bias}
    return state
