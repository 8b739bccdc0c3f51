"""The Inception network of FID, KID and the inception score, with TensorFlow's weights as ported by torch-fidelity."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wplus.errors import UserError, reason
from wplus.pretrained.extractor import Extractor, in_colour, tensorflow_protocol
from wplus.pretrained.weights import find_or_download, read, sha256_by_name

FILE = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
STAGES = (  # layers of torch-fidelity's module; the resolution halves after each row
    ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1"),
    ("Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2", "Mixed_5b", "Mixed_5c", "Mixed_5d"),
    ("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
)


class InceptionFeatures(Extractor):
    """Pooled features (2048) of the Inception-v3 of 2015-12-05, the only net for which FID, KID and IS are named so.

    The network and its resize are torch-fidelity's, which match the original TensorFlow graph
    (https://github.com/toshas/torch-fidelity). The weights are read from torch's cache, or downloaded if `download` is
    set; otherwise, or if that fails, a UserError gives file, URL and folder.
    """

    name = "inception"
    dim = 2048
    layer = "pooled features before the classifier"
    map_channels, map_strides = (64, 288, 768, 2048), (4, 8, 16, 32)
    map_min_px = 75

    def __init__(self, *, download: bool = True) -> None:
        path = find_or_download(FILE, URL, user=self.name, download=download, option="the extractor's download=true")
        super().__init__(weights=path.name, sha256=sha256_by_name(path), preparation=tensorflow_protocol(299))
        self.net: Any = _network(path)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), grey or RGB -> (N, 2048) float32."""
        return self.net(in_colour(images))[0]

    def maps(self, images: Tensor) -> list[Tensor]:
        """Outputs of the last block of each stride, for images of 75 px or more."""
        x, found = images * (127.5 / 128) - 0.5 / 128, []
        for layers in STAGES:
            for layer in layers:
                x = getattr(self.net, layer)(x)
            found.append(x)
        return found

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Features (N, 2048) -> logits (N, 1008) without the bias, which the inception score omits by convention."""
        return features @ self.net.fc.weight.T


def _network(path: Path) -> nn.Module:
    """torch-fidelity's module with the weights of the file."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ModuleNotFoundError as error:
        raise UserError("The extractor inception needs torch-fidelity: pip install 'wplus[fidelity]'.") from error

    # The class unpickles its file unsafely, so it gets a copy of weights that were loaded safely.
    copy = io.BytesIO()
    torch.save(read(path), copy)
    copy.seek(0)
    try:
        return FeatureExtractorInceptionV3(InceptionFeatures.name, ["2048"], feature_extractor_weights_path=copy)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"'{path}' holds the weights of another net: {reason(error)}.") from error
