"""Perceptual distances: how different two images look to a pretrained net, one number per image.

Every distance has a name that says which net it is; a stand-in never calls itself LPIPS. All follow the recipe of
LPIPS (Zhang et al. 2018, https://arxiv.org/abs/1801.03924): features of several layers, normalised to unit length at
every position, squared differences averaged over space and summed over layers.
"""

from __future__ import annotations

import hashlib
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.errors import UserError
from wplus.losses.image_pair import ImageDistance, mean_over
from wplus.models import effnet_lite0

MIN_SIZE, MAX_SIZE = 32, 256  # pixels that the nets see
SIZE_POLICY = f"{MIN_SIZE} to {MAX_SIZE} px as they are; smaller: bilinear to {MIN_SIZE}; larger: area to {MAX_SIZE}"


def fit_size(images: Tensor) -> Tensor:
    """Square images (N, C, R, R) at a size the nets can use, by `SIZE_POLICY`.

    Small images are not enlarged further, because that makes the nets more sensitive to a shift by a pixel: at 32 px
    its distance is 0.56 of that of a Gaussian blur of 1 px as they are, 0.67 enlarged to 64 px (EfficientNet-Lite0).
    """
    size = images.shape[-1]
    if size < MIN_SIZE:
        return F.interpolate(images, size=(MIN_SIZE, MIN_SIZE), mode="bilinear", align_corners=False)
    if size > MAX_SIZE:
        return F.interpolate(images, size=(MAX_SIZE, MAX_SIZE), mode="area")
    return images


def unit_length(features: Tensor, eps: float = 1e-10) -> Tensor:
    """Features (N, C, H, W), every channel vector scaled to length 1; a zero vector stays zero, its gradient finite."""
    return features * (features.square().sum(dim=1, keepdim=True) + eps).rsqrt()


class PerceptualDistance(ImageDistance):
    """A frozen net that compares images of 1 or 3 channels by features of several layers.

    A subclass implements `_feature_maps` and may weigh the squared differences of a layer in `_compare`.
    """

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-length feature maps, one per layer: (N, C_l, H_l, W_l)."""
        rgb = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        return [unit_length(maps) for maps in self._feature_maps(fit_size(rgb))]

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Distances (N,): per layer the mean over space, weighted by the mask at that layer's size; summed."""
        pairs = zip(features_a, features_b, strict=True)
        return sum(mean_over(self._compare((a - b).square(), layer), mask) for layer, (a, b) in enumerate(pairs))

    def _feature_maps(self, images: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def _compare(self, squares: Tensor, layer: int) -> Tensor:
        """Squared differences of one layer (N, C, H, W) -> a map (N, H, W)."""
        return squares.sum(dim=1)


# EfficientNet-Lite0


class EffNetLite0Distance(PerceptualDistance):
    """`effnet_lite0`: the bundled ImageNet net, features at strides 4, 8, 16 and 32, no learned heads. Not LPIPS.

    The stage at stride 2 is left out: with it a shift by one pixel counts more than a Gaussian blur of 1 px for a
    quarter of the cats at 32 px, without it for none of them.
    """

    name = "effnet_lite0"
    layers = (1, 2, 4, 6)  # the last stage at each stride

    def __init__(self) -> None:
        super().__init__()
        self.net = effnet_lite0.load_effnet_lite0()
        self.provenance = {
            "name": self.name,
            "weights": effnet_lite0.WEIGHTS_FILE,
            "sha256": effnet_lite0.weights_sha256(),
            "layers": [f"stage {layer}" for layer in self.layers],
            "input": SIZE_POLICY,
        }
        self.eval()

    def _feature_maps(self, images: Tensor) -> list[Tensor]:
        images = images.contiguous(memory_format=torch.channels_last)  # half the time of NCHW at 32 px on a CPU
        outputs = self.net.stage_outputs(images)
        return [outputs[layer] for layer in self.layers]


# LPIPS

# Trunk -> torchvision's weights file; the eight letters before .pth begin the file's SHA-256.
TRUNK_FILES = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}
TRUNK_URL = "https://download.pytorch.org/models/"
DOWNLOAD_TIMEOUT_S = 20.0


class LPIPSDistance(PerceptualDistance):
    """`lpips_vgg`, `lpips_alex`: official LPIPS v0.1, learned heads from the `lpips` package on torchvision's trunks.

    The trunk's weights are looked for in torch's cache (`$TORCH_HOME/hub/checkpoints`). When they are not there they
    are downloaded if `download` is set; otherwise, or when that fails, UserError names file, URL and folder.
    """

    def __init__(self, net: Literal["vgg", "alex"], *, download: bool = False) -> None:
        if net not in TRUNK_FILES:
            raise UserError(f"There is no LPIPS trunk '{net}': choose one of {', '.join(TRUNK_FILES)}.")
        super().__init__()
        self.name = f"lpips_{net}"
        path = _trunk_path(net, download)
        sha256 = _checked_sha256(path)
        self.lpips = _lpips_module(net, path)
        self.provenance = {
            "name": self.name,
            "weights": path.name,
            "sha256": sha256,
            "layers": "as published, heads v0.1 of the lpips package",
            "input": SIZE_POLICY,
        }
        self.eval().requires_grad_(False)

    def _feature_maps(self, images: Tensor) -> list[Tensor]:
        return list(self.lpips.net(self.lpips.scaling_layer(images)))

    def _compare(self, squares: Tensor, layer: int) -> Tensor:
        return self.lpips.lins[layer](squares)[:, 0]


def _lpips_module(net: str, trunk: Path) -> nn.Module:
    """The lpips package's module with the trunk's weights from the file."""
    import lpips

    with warnings.catch_warnings():  # lpips 0.1.4 calls torchvision by arguments that it deprecates
        warnings.filterwarnings("ignore", message="The parameter 'pretrained' is deprecated", category=UserWarning)
        warnings.filterwarnings("ignore", message="Arguments other than a weight enum", category=UserWarning)
        module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    state = torch.load(trunk, map_location="cpu", weights_only=True)
    # 'slice2.5.weight' is 'features.5.weight' of torchvision.
    names = {name: "features." + name.split(".", 1)[1] for name in module.net.state_dict()}
    module.net.load_state_dict({ours: state[theirs] for ours, theirs in names.items()})
    return module


def _trunk_path(net: str, download: bool) -> Path:
    """The trunk's weights file in torch's cache, downloaded if need be and allowed."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / TRUNK_FILES[net]
    if path.is_file():
        return path
    where = f"{path.name} from {TRUNK_URL}{path.name} into the folder {folder}"
    if not download:
        raise UserError(f"lpips_{net} needs weights that are not here: put {where}, or set perceptual.download=true.")
    print(f"Downloading {where}", file=sys.stderr)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(DOWNLOAD_TIMEOUT_S):
            torch.hub.download_url_to_file(TRUNK_URL + path.name, str(path), hash_prefix=_hash_prefix(path))
    except (OSError, RuntimeError) as error:  # no network, no space, or a wrong hash
        raise UserError(f"lpips_{net} could not download its weights ({error}): put {where} by hand.") from error
    return path


def _hash_prefix(path: Path) -> str:
    return path.stem.rsplit("-", 1)[1]


def _checked_sha256(path: Path) -> str:
    """SHA-256 of a weights file; UserError when it does not begin as the file's name says."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(_hash_prefix(path)):
        expected = _hash_prefix(path)
        raise UserError(f"'{path}' is damaged or another file: its SHA-256 begins with {digest[:8]}, not {expected}.")
    return digest


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
