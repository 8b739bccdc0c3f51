"""The U-Net of pix2pix (Isola et al., 1611.07004): down to 1 px and up again, with skip connections at every map.

encoder  C64-C128-C256-C512-C512-C512-C512-C512           4x4 convolutions of stride 2, leaky ReLU
decoder  CD512-CD1024-CD1024-C1024-C1024-C512-C256-C128   widths after concatenation with the encoder's maps
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.errors import UserError, check_choice
from wplus.models.layers import SLOPE
from wplus.models.translation.base import (
    WIDEST,
    Mode,
    Norm,
    NormKind,
    TranslatorNetwork,
    dropped,
    has_bias,
    init_weights,
)

UPSAMPLES = ("resize", "transposed")
Upsample = Literal["resize", "transposed"]
FIRST_DROPPED = 4  # ups from here to the second innermost have dropout: three at 256 px, none up to 32 px


class Down(nn.Module):
    """Leaky ReLU, convolution of stride 2, normalisation: (N, C, H, W) -> (N, D, H/2, W/2).

    The first has no activation; the first and the innermost have no normalisation.
    """

    def __init__(self, in_channels: int, channels: int, norm: NormKind, *, activate: bool, bias: bool) -> None:
        super().__init__()
        self.activate = activate
        self.conv = nn.Conv2d(in_channels, channels, 4, stride=2, padding=1, bias=bias)
        self.norm = Norm(channels, norm)

    def forward(self, x: Tensor, mode: Mode) -> Tensor:
        """x (N, C, H, W) -> (N, D, H / 2, W / 2)."""
        return self.norm(self.conv(F.leaky_relu(x, SLOPE) if self.activate else x), mode)


class Up(nn.Module):
    """ReLU, upsampling, normalisation, dropout: (N, C, H, W) -> (N, D, 2H, 2W).

    upsample  "transposed": a 4x4 transposed convolution of stride 2, as published; "resize": nearest-neighbour resize
              and a 3x3 convolution, which avoids checkerboards (Odena et al., distill.pub/2016/deconv-checkerboard)
    """

    def __init__(self, in_channels: int, channels: int, norm: NormKind, upsample: Upsample, *, bias: bool,
                 dropout: float = 0.0) -> None:  # fmt: skip
        super().__init__()
        self.upsample, self.dropout = upsample, dropout
        if upsample == "transposed":
            self.conv: nn.Module = nn.ConvTranspose2d(in_channels, channels, 4, stride=2, padding=1, bias=bias)
        else:
            self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=bias)
        self.norm = Norm(channels, norm)

    def forward(self, x: Tensor, mode: Mode) -> Tensor:
        """x (N, C, H, W) -> (N, D, 2H, 2W)."""
        x = F.relu(x)
        if self.upsample == "resize":
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        return dropped(self.norm(self.conv(x), mode), self.dropout, mode)


class UNet(TranslatorNetwork):
    """pix2pix' generator.

    num_downs  halvings; log2 of the resolution gives an innermost map of 1x1 px, as published (8 at 256 px)
    width      feature maps after the first halving; 2, 4 and 8 times as many after the next ones
    norm       "instance" gives the same images in training and inference; "batch" is published
    dropout    dropout rate of the inner ups in training, the paper's noise
    """

    def __init__(
        self, *, in_channels: int = 3, img_channels: int = 3, num_downs: int = 8, width: int = 64,
        norm: NormKind = "instance", upsample: Upsample = "resize", dropout: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__(in_channels=in_channels, img_channels=img_channels)
        check_choice("upsample", upsample, UPSAMPLES)
        if num_downs < 2:
            raise UserError(f"num_downs must be at least 2, got {num_downs}.")
        self.size_divisor = 2**num_downs
        widths = [width * min(2**i, WIDEST) for i in range(num_downs)]
        bias = has_bias(norm)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()  # both from the image's end
        for i, channels in enumerate(widths):
            plain = i in (0, num_downs - 1)
            before = widths[i - 1] if i else in_channels
            self.downs.append(Down(before, channels, "none" if plain else norm, activate=i > 0, bias=bias))
            joined = channels if i == num_downs - 1 else 2 * channels
            drop = dropout if FIRST_DROPPED <= i < num_downs - 1 else 0.0
            inner = Up(joined, before, norm, upsample, bias=bias, dropout=drop)
            self.ups.append(inner if i else Up(joined, img_channels, "none", upsample, bias=True))
        init_weights(self)

    def translate(self, images: Tensor, mode: Mode) -> Tensor:
        """`forward` of images of the right shape."""
        maps = [images]
        for down in self.downs:
            maps.append(down(maps[-1], mode))
        x = maps.pop()
        for up in self.ups[:0:-1]:
            x = torch.cat([maps.pop(), up(x, mode)], dim=1)  # [d_i, u_i]: skips come first
        return self.ups[0](x, mode).tanh()
