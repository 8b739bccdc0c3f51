"""VGG16, the feature extractor of improved precision and recall."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import vgg16
from torchvision.transforms.functional import normalize

from wplus.models.layers import outputs_at
from wplus.pretrained import extractor
from wplus.pretrained.weights import find_or_download, load_into, read_tensors, sha256_by_name

FILE = "vgg16-397923af.pth"
URL = f"https://download.pytorch.org/models/{FILE}"
SIZE = 224  # px


class VGG16Features(extractor.Extractor):
    """The second fully connected layer (4096) of VGG16 after its ReLU, as improved precision and recall use it.

    Kynkäänniemi et al. 2019 (arXiv:1904.06991). Weights are torchvision's, resize and layer those of torch-fidelity's
    `prc`. The weights are read from torch's cache, or downloaded if `download` is set; otherwise, or if that fails, a
    UserError gives file, URL and folder.
    """

    name = "vgg16"
    dim = 4096
    layer = "fc2 after ReLU"
    map_channels, map_strides = (128, 256, 512, 512), (2, 4, 8, 16)

    def __init__(self, *, download: bool = True) -> None:
        path = find_or_download(FILE, URL, user=self.name, download=download, option="the extractor's download=true")
        super().__init__(
            weights=path.name, sha256=sha256_by_name(path), preparation=extractor.tensorflow_protocol(SIZE)
        )
        self.net: Any = _network(path)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), grey or RGB -> (N, 4096) float32."""
        seen = extractor.tensorflow_bilinear(extractor.in_colour(images).float(), SIZE)
        of_pixels = (extractor.IMAGENET_MEAN, extractor.IMAGENET_STD)
        return self.net(normalize(seen, *([255 * value for value in values] for values in of_pixels)))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The last activation before each pooling, starting from the second pooling."""
        seen = normalize(images / 2 + 0.5, extractor.IMAGENET_MEAN, extractor.IMAGENET_STD)
        return outputs_at(self.net.features, seen, (8, 15, 22, 29))


def _network(path: Path) -> nn.Module:
    """torchvision's VGG16 up to the second fully connected layer, with the weights of the file."""
    with torch.device("meta"):  # avoids initializing half a gigabyte of weights
        net = vgg16()
    del net.classifier[5:]
    state = {name: tensor for name, tensor in read_tensors(path).items() if not name.startswith("classifier.6.")}
    return load_into(net.to_empty(device="cpu"), state, path)
