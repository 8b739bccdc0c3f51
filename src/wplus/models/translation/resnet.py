"""CycleGAN's generator (Zhu et al., 1703.10593; Johnson et al., 1603.08155): down, residual blocks, up.

c7s1-64, d128, d256, R256 x 9 (6 below 256 px), u128, u64, c7s1-3
"""

import torch.nn.functional as F
from torch import Tensor, nn

from wplus.errors import check_choice
from wplus.models.translation.base import Mode, Norm, NormKind, TranslatorNetwork, dropped, has_bias, init_weights
from wplus.models.translation.unet import UPSAMPLES, Upsample


class ConvNorm(nn.Module):
    """Reflection padding, convolution, normalisation: (N, C, H, W) -> (N, D, H / stride, W / stride)."""

    def __init__(self, in_channels: int, channels: int, kernel: int, norm: NormKind, *, stride: int = 1) -> None:
        super().__init__()
        self.reflect = kernel // 2 if stride == 1 else 0  # as published, zeros if it halves the resolution
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2 - self.reflect, bias=has_bias(norm))
        self.norm = Norm(channels, norm)

    def forward(self, x: Tensor, mode: Mode) -> Tensor:
        """x (N, C, H, W) -> (N, D, H / stride, W / stride)."""
        padded = F.pad(x, [self.reflect] * 4, mode="reflect") if self.reflect else x
        return self.norm(self.conv(padded), mode)


class ResidualBlock(nn.Module):
    """x + norm(conv(dropout(relu(norm(conv(x)))))), of the same shape."""

    def __init__(self, channels: int, norm: NormKind, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.conv0, self.conv1 = ConvNorm(channels, channels, 3, norm), ConvNorm(channels, channels, 3, norm)

    def forward(self, x: Tensor, mode: Mode) -> Tensor:
        """x (N, C, H, W), of the same shape."""
        return x + self.conv1(dropped(F.relu(self.conv0(x, mode)), self.dropout, mode), mode)


class UpNorm(nn.Module):
    """Upsampling, by a 3x3 transposed convolution or a resize and convolution, and normalisation: H x W to 2H x 2W."""

    def __init__(self, in_channels: int, channels: int, norm: NormKind, upsample: Upsample) -> None:
        super().__init__()
        self.upsample, bias = upsample, has_bias(norm)
        if upsample == "transposed":
            self.conv: nn.Module = nn.ConvTranspose2d(in_channels, channels, 3, 2, 1, output_padding=1, bias=bias)
        else:
            self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=bias)
        self.norm = Norm(channels, norm)

    def forward(self, x: Tensor, mode: Mode) -> Tensor:
        """x (N, C, H, W) -> (N, D, 2H, 2W)."""
        x = F.interpolate(x, scale_factor=2, mode="nearest") if self.upsample == "resize" else x
        return self.norm(self.conv(x), mode)


class ResNet(TranslatorNetwork):
    """CycleGAN's generator.

    num_blocks  residual blocks: 9 from 256 px on, 6 below
    num_downs   halvings before them: 2 as published, 1 is enough for small images
    width       feature maps at full resolution, doubled at every halving
    norm        "instance", without gamma and beta, is published
    upsample    "resize" avoids checkerboards; "transposed" is published
    """

    def __init__(
        self, *, in_channels: int = 3, img_channels: int = 3, num_blocks: int = 9, num_downs: int = 2, width: int = 64,
        norm: NormKind = "instance", upsample: Upsample = "resize", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(in_channels=in_channels, img_channels=img_channels)
        check_choice("upsample", upsample, UPSAMPLES)
        self.size_divisor = 2**num_downs
        widths = [width * 2**i for i in range(num_downs + 1)]
        self.first = ConvNorm(in_channels, width, 7, norm)
        self.downs = nn.ModuleList(ConvNorm(widths[i], widths[i + 1], 3, norm, stride=2) for i in range(num_downs))
        self.blocks = nn.ModuleList(ResidualBlock(widths[-1], norm, dropout) for _ in range(num_blocks))
        self.ups = nn.ModuleList(UpNorm(widths[i + 1], widths[i], norm, upsample) for i in reversed(range(num_downs)))
        self.last = nn.Conv2d(width, img_channels, 7)
        init_weights(self)

    def translate(self, images: Tensor, mode: Mode) -> Tensor:
        """`forward` of images of the right shape."""
        x = F.relu(self.first(images, mode))
        for down in self.downs:
            x = F.relu(down(x, mode))
        for block in self.blocks:
            x = block(x, mode)
        for up in self.ups:
            x = F.relu(up(x, mode))
        return self.last(F.pad(x, [3] * 4, mode="reflect")).tanh()
