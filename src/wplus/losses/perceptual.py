"""Perceptual distances: how different two images look to a pretrained net, one number per image.

The name identifies the net; only official LPIPS is named LPIPS. All follow the LPIPS recipe (Zhang et al. 2018):
features of several layers, normalised to unit length at every position, squared differences averaged over space and
summed over layers.
"""

import functools
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wplus.core.files import sha256
from wplus.core.metric_result import MetricInfo
from wplus.errors import check_choice
from wplus.losses.image_pair import ImageDistance, coloured, mean_over
from wplus.models.encoders.base import resized
from wplus.pretrained import effnet_lite0
from wplus.pretrained.extractor import Extractor, check_maps
from wplus.pretrained.shift_tolerant import ShiftTolerantNet, renamed
from wplus.pretrained.weights import find_or_download, from_package, load_into, read_tensors, sha256_by_name

MIN_SIZE, MAX_SIZE = 32, 256  # px, input size range of the nets
SIZE_POLICY = f"{MIN_SIZE} to {MAX_SIZE} px as they are; smaller: bilinear to {MIN_SIZE}; larger: area to {MAX_SIZE}"


def fit_size(images: Tensor) -> Tensor:
    """Resize square images (N, C, R, R) to a size the nets can use, following `SIZE_POLICY`.

    Enlarging small images further makes the nets more sensitive to one-pixel shifts: at 32 px, such a shift has 0.56
    times the distance of a Gaussian blur of 1 px, and 0.67 times after enlarging to 64 px (EfficientNet-Lite0).
    """
    return resized(images, min(max(images.shape[-1], MIN_SIZE), MAX_SIZE))


def unit_length(features: Tensor, eps: float = 1e-10) -> Tensor:
    """Scale the channel vectors of features (N, C, H, W) to unit length; zeros stay zero, with a finite gradient."""
    return features * (features.square().sum(dim=1, keepdim=True) + eps).rsqrt()


class PerceptualDistance(ImageDistance):
    """Distance between images of 1 or 3 channels, from a frozen net's features at several layers.

    Subclasses implement `_feature_maps` and may override `_compare` to weight a layer's squared differences.
    """

    info = MetricInfo(
        meaning="Perceptual distance of two images, between features of the net named, which is not LPIPS; 0 for equal "
        "images.", direction="lower",
    )  # fmt: skip

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-length feature maps, one per layer: (N, C_l, H_l, W_l)."""
        return [unit_length(maps) for maps in self._feature_maps(fit_size(coloured(images)))]

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Distances (N,): per-layer means over space, weighted by the mask at that resolution, summed over layers."""
        pairs = zip(features_a, features_b, strict=True)
        layers = [mean_over(self._compare((a - b).square(), layer), mask) for layer, (a, b) in enumerate(pairs)]
        return functools.reduce(torch.add, layers)

    def _feature_maps(self, images: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def _compare(self, squares: Tensor, layer: int) -> Tensor:
        """Squared differences of one layer (N, C, H, W) -> a map (N, H, W)."""
        return squares.sum(dim=1)


class EffNetLite0Distance(PerceptualDistance):
    """`effnet_lite0`: the bundled ImageNet net, features at strides 4, 8, 16 and 32, no learned heads. Not LPIPS.

    Including the stage at stride 2 would make a one-pixel shift count more than a Gaussian blur of 1 px for a quarter
    of the cats at 32 px; without it, this happens for none of them.
    """

    name = "effnet_lite0"
    layers = (1, 2, 4, 6)  # the last stage at each stride

    def __init__(self) -> None:
        super().__init__()
        self.net = effnet_lite0.load_effnet_lite0()
        stages = [f"stage {layer}" for layer in self.layers]
        self.freeze(**effnet_lite0.weights_provenance(), layers=stages, input=SIZE_POLICY)

    def _feature_maps(self, images: Tensor) -> list[Tensor]:
        # Channels last: half the time of NCHW at 32 px on a CPU.
        outputs = self.net.stage_outputs(images.contiguous(memory_format=torch.channels_last))
        return [outputs[layer] for layer in self.layers]


class ExtractorDistance(PerceptualDistance):
    """Compares all feature maps of an extractor, and is named after it. A second opinion to a loss's own net."""

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        check_maps(extractor)
        self.name, self.net = extractor.name, extractor
        layers = [f"maps at stride {stride}" for stride in extractor.map_strides]
        origin = extractor.protocol
        self.freeze(weights=origin["extractor_weights"], sha256=extractor.weights_sha256, layers=layers,
                    input=SIZE_POLICY)  # fmt: skip

    def _feature_maps(self, images: Tensor) -> list[Tensor]:
        return self.net.maps(images)


# Trunk -> torchvision's weights file; the eight characters before .pth are the start of the file's SHA-256.
TRUNK_FILES = {
    "vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth", "squeeze": "squeezenet1_1-b8a52dc0.pth",
}  # fmt: skip
TRUNK_URL = "https://download.pytorch.org/models/"


class LPIPSDistance(PerceptualDistance):
    """`lpips_vgg`, `lpips_alex`, `lpips_squeeze`: official LPIPS v0.1, learned heads from the `lpips` package.

    The trunk uses torchvision's weights from torch's cache (`$TORCH_HOME/hub/checkpoints`), which are downloaded if
    `download` is set; otherwise, or if that fails, UserError names file, URL and folder.
    """

    info = MetricInfo(
        meaning="LPIPS: learned perceptual distance of two images, by the trunk named; 0 for equal images.",
        direction="lower",
    )

    def __init__(self, net: Literal["vgg", "alex", "squeeze"], *, download: bool = True) -> None:
        check_choice("net", net, TRUNK_FILES)
        super().__init__()
        self.name = f"lpips_{net}"
        file, url = TRUNK_FILES[net], TRUNK_URL + TRUNK_FILES[net]
        path = find_or_download(file, url, user=self.name, download=download, option="perceptual.download=true")
        digest, layers = sha256_by_name(path), "as published, heads v0.1 of the lpips package"
        self.lpips: Any = _lpips_module(net, path)
        self.freeze(weights=path.name, sha256=digest, layers=layers, input=SIZE_POLICY)

    def _feature_maps(self, images: Tensor) -> list[Tensor]:
        return list(self.lpips.net(self.lpips.scaling_layer(images)))

    def _compare(self, squares: Tensor, layer: int) -> Tensor:
        return self.lpips.lins[layer](squares)[:, 0]


def _lpips_module(net: str, trunk: Path) -> nn.Module:
    """Create the lpips package's module with the trunk's weights from the file."""
    import lpips

    with warnings.catch_warnings():  # lpips 0.1.4 calls torchvision with deprecated arguments
        warnings.filterwarnings("ignore", message="The parameter 'pretrained' is deprecated", category=UserWarning)
        warnings.filterwarnings("ignore", message="Arguments other than a weight enum", category=UserWarning)
        module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    state = read_tensors(trunk)
    # 'slice2.5.weight' is 'features.5.weight' in torchvision.
    names = {name: "features." + name.split(".", 1)[1] for name in module.net.state_dict()}
    module.net.load_state_dict({ours: state[theirs] for ours, theirs in names.items()})
    return module


STLPIPS_PACKAGE = "stlpips-pytorch"


class STLPIPSDistance(PerceptualDistance):
    """`stlpips_alex`, `stlpips_vgg`: shift-tolerant LPIPS (Ghildyal and Liu 2022, https://arxiv.org/abs/2207.13686).

    Only the package's weights file is read. The values differ from LPIPS: other trunks, other heads, another scale.
    """

    info = MetricInfo(
        meaning="ST-LPIPS: shift-tolerant relative of LPIPS, on another scale, by the trunk named; 0 for equal images.",
        direction="lower",
    )

    def __init__(self, net: Literal["alex", "vgg"]) -> None:
        check_choice("net", net, ("alex", "vgg"))
        super().__init__()
        self.name = f"stlpips_{net}"
        path = from_package(STLPIPS_PACKAGE, "weights", "vST0.0", f"{net}_shift_tolerant.pth")
        self.net = ShiftTolerantNet(net)
        load_into(self.net, renamed(read_tensors(path)), path)
        layers = f"as published, heads vST0.0 of {STLPIPS_PACKAGE}"
        self.freeze(weights=path.name, sha256=sha256(path), layers=layers, input=SIZE_POLICY)

    def _feature_maps(self, images: Tensor) -> list[Tensor]:
        return self.net.feature_maps(images)

    def _compare(self, squares: Tensor, layer: int) -> Tensor:
        return self.net.heads[layer](squares)[:, 0]
