"""The nets of ST-LPIPS: shift-tolerant AlexNet and VGG16, and their learned heads.

The definition follows Ghildyal and Liu 2022, "Shift-tolerant Perceptual Similarity Metric"
(https://arxiv.org/abs/2207.13686): every strided layer is preceded by a blur, and blurs pad beyond the border.
"""

import re
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.models.layers import outputs_at

VGG_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels of each convolution

# Names in the published files -> ours; like ours, their layers are numbered consecutively across slices.
NAMES = {
    r"scaling_layer\.(shift|scale)": r"\1",
    r"net\.slice\d\.(\d+)\.(weight|bias|filt)": r"layers.\1.\2",
    r"lin(\d)\.model\.1\.weight": r"heads.\1.weight",
}


class BlurPool(nn.Module):
    """Blur and subsample by 2 (Zhang 2019, https://arxiv.org/abs/1904.11486), with reflection padding of 2 pixels.

    A padding of 1 would do for a kernel of 3: ST-LPIPS pads more, so that the border counts as much as the middle.
    """

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        binomial = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filt", (binomial[:, None] * binomial).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, (H + 3) // 2, (W + 3) // 2)."""
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


class ShiftTolerantNet(nn.Module):
    """A trunk with five feature maps, and a head for each: a weight per channel for squared differences."""

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Literal["alex", "vgg"]) -> None:
        super().__init__()
        layers, self.ends, channels = _alex() if net == "alex" else _vgg()
        self.layers = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in channels)
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Images (N, 3, H, W) in [-1, 1], at least 32 px -> outputs (N, C_l, H_l, W_l) of the chosen ReLUs."""
        return outputs_at(self.layers, (images - self.shift) / self.scale, self.ends)


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a published file's tensors to those of `ShiftTolerantNet`; unknown names are kept."""
    ours = {}
    for theirs, tensor in state.items():
        found = (re.fullmatch(pattern, theirs) for pattern in NAMES)
        ours[next((match.expand(NAMES[match.re.pattern]) for match in found if match), theirs)] = tensor
    return ours


def _alex() -> tuple[list[nn.Module], tuple[int, ...], tuple[int, ...]]:
    """AlexNet's layers, the positions of its ReLUs, their channels. Two blurs replace the first stride of 4."""
    layers = [
        nn.Conv2d(3, 64, 11, padding=2), BlurPool(64), nn.ReLU(),
        nn.MaxPool2d(3, stride=1), BlurPool(64), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, stride=1), BlurPool(192), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip
    return layers, (2, 6, 10, 12, 14), (64, 192, 384, 256, 256)


def _vgg() -> tuple[list[nn.Module], tuple[int, ...], tuple[int, ...]]:
    """VGG16's layers, the positions of the last ReLU of each block, their channels. Pooling is a max, then a blur."""
    layers: list[nn.Module] = []
    ends, width = [], 3
    for block in VGG_BLOCKS:
        if layers:
            layers += [nn.MaxPool2d(2, stride=1), BlurPool(width)]
        for channels in block:
            layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
            width = channels
        ends.append(len(layers) - 1)
    return layers, tuple(ends), tuple(block[-1] for block in VGG_BLOCKS)
