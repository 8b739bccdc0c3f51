"""The IR-SE backbone (ArcFace, Deng et al. 2019: improved residual units with squeeze-and-excitation) of e4e and pSp.

Parameter names follow the published checkpoints of ArcFace, pSp and e4e, which map one to one.
"""

from itertools import accumulate

import torch
from torch import Tensor, nn

from wplus.errors import check_choice

STEM_CHANNELS = 64
CHANNELS = (64, 128, 256, 512)  # of the four stages, each of which halves the resolution
UNITS = {50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 152: (3, 8, 36, 3)}  # by depth
REDUCTION = 16


class SqueezeExcitation(nn.Module):
    """Scale every channel by a gate computed from the means of all channels (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        gate = torch.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))  # (N, C/16, 1, 1)
        return x * torch.sigmoid(self.fc2(gate))


class Unit(nn.Module):
    """One residual unit: normalise, convolve, PReLU, convolve with the stride, normalise, excite."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        if in_channels == out_channels:
            self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)  # subsamples
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.PReLU(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            SqueezeExcitation(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        return self.res_layer(x) + self.shortcut_layer(x)


def stem(in_channels: int = 3) -> nn.Sequential:
    """Images (N, in_channels, H, W) -> (N, 64, H, W)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, STEM_CHANNELS, 3, padding=1, bias=False),
        nn.BatchNorm2d(STEM_CHANNELS),
        nn.PReLU(STEM_CHANNELS),
    )


def body(depth: int = 50) -> nn.Sequential:
    """The sequence of all units: (N, 64, H, W) -> (N, 512, H/16, W/16). UserError unless depth is 50, 100 or 152."""
    check_choice("depth", depth, UNITS)
    units, in_channels = [], STEM_CHANNELS
    for channels, num_units in zip(CHANNELS, UNITS[depth], strict=True):
        for i in range(num_units):
            units.append(Unit(in_channels, channels, stride=2 if i == 0 else 1))
            in_channels = channels
    return nn.Sequential(*units)


def taps(depth: int = 50) -> tuple[int, int, int]:
    """Indices of the units that end the stages of strides 4, 8 and 16: (6, 20, 23) at depth 50."""
    ends = [end - 1 for end in accumulate(UNITS[depth])]
    return ends[1], ends[2], ends[3]
