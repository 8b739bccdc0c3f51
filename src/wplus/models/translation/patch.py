"""PatchGAN: a discriminator that judges every patch of an image (Isola et al., 1611.07004, section 3.2.2).

Three layers of stride 2 see patches of 70 px (C64-C128-C256-C512), one layer sees patches of 16 px, none single pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from wplus.errors import UserError, check_choice
from wplus.models.layers import SLOPE
from wplus.models.network import Network
from wplus.models.translation.base import MODES, WIDEST, Mode, Norm, NormKind, check_images, has_bias, init_weights


class PatchLayer(nn.Module):
    """Convolution, normalisation, leaky ReLU."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, norm: NormKind, *, stride: int, bias: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 4, bias=bias)
        self.norm = Norm(channels, norm)

    def forward(self, x: Tensor, mode: Mode) -> Tensor:
        """x (N, C, H, W) -> (N, D, h, w)."""
        return F.leaky_relu(self.norm(self.conv(x), mode), SLOPE)


class PatchDiscriminator(Network):
    """Images, concatenated with their inputs if it is conditional, to one logit per patch, high is real.

    in_channels  channels of its input: 3, or 6 for pairs (A, B) concatenated along channels
    num_layers   of stride 2: 3 is published for 256 px; 0 judges single pixels by 1x1 convolutions
    width        feature maps of the first layer, doubled up to 8 times
    norm         not applied to the first layer; "instance" keeps images independent
    """

    def __init__(
        self, *, in_channels: int = 6, num_layers: int = 3, width: int = 64, norm: NormKind = "instance"
    ) -> None:
        super().__init__()
        if num_layers < 0:
            raise UserError(f"num_layers must be 0 or more, got {num_layers}.")
        self.in_channels = in_channels
        kernel, bias = (4 if num_layers else 1), has_bias(norm)
        widths = [width * min(2**i, WIDEST) for i in range(max(num_layers, 1) + 1)]
        stride = 2 if num_layers else 1
        self.layers = nn.ModuleList([PatchLayer(in_channels, width, kernel, "none", stride=stride, bias=True)])
        for i in range(1, len(widths)):
            stride = 2 if i < num_layers else 1
            self.layers.append(PatchLayer(widths[i - 1], widths[i], kernel, norm, stride=stride, bias=bias))
        self.out = nn.Conv2d(widths[-1], 1, kernel, 1, kernel // 4, bias=bias or kernel == 4)
        init_weights(self)

    def forward(self, images: Tensor, mode: Mode = "inference") -> Tensor:
        """images (N, in_channels, H, W) in [-1, 1] -> logits (N, 1, h, w); for modes see `Norm`."""
        check_choice("mode", mode, MODES)
        check_images(images, self.in_channels)
        for layer in self.layers:
            images = layer(images, mode)
        return self.out(images)

    if TYPE_CHECKING:
        __call__ = forward
