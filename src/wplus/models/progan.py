"""ProGAN (Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018).

Both networks, with the sizes of appendix A: table 2 at 1024 px. The generator is conditioned as in the paper; the
discriminator takes labels like StyleGAN's (one logit per class, selected by the label) instead of using AC-GAN.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.models import ops
from wplus.models.convolution import conv2d
from wplus.models.discriminator import DiscriminatorNetwork
from wplus.models.generator import SynthesisNetwork
from wplus.models.layers import SQRT2, EqualizedConv2d, EqualizedLinear, block_widths, leaky_relu, num_channels
from wplus.models.layers import normalize_second_moment as pixel_norm
from wplus.models.mapping import IdentityMappingGenerator
from wplus.models.ops import minibatch_stddev
from wplus.models.progressive import Growth, downsample_mean, upsample_nearest

# --- layers of ProGAN and StyleGAN ----------------------------------------------------------------------------------

# y = x (w gain lr_mul / sqrt(in))^T + b lr_mul: the gain only applies to the weights.
Dense = functools.partial(EqualizedLinear, bias_gain=1.0)


class Conv(EqualizedConv2d):
    """Convolution with equalised learning rate; by default with a bias and a leaky ReLU of slope 0.2.

    Upsampling precedes the convolution, downsampling follows it. Both are linear, and from 128 px on the authors' code
    merges them with the convolution into a single one with the same result.
    """

    def __init__(self, *sizes: int, up: int = 1, down: int = 1, activate: bool = True, **options: Any) -> None:
        super().__init__(*sizes, activate=activate, bias_gain=1.0, **options)
        self.up, self.down = up, down

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution and change of resolution only."""
        return downsample_mean(conv2d(upsample_nearest(x, self.up), weight, padding=self.padding), self.down)


def blur(x: Tensor) -> Tensor:
    """Apply the low-pass filter [1, 2, 1] / 4 in both directions to every channel (StyleGAN, appendix C)."""
    return ops.blur(x, padding=1, taps=(1.0, 2.0, 1.0))


def to_rgb(widths: dict[int, int], img_channels: int) -> nn.ModuleList:
    """One convolution from features to RGB per resolution."""
    return nn.ModuleList(Conv(width, img_channels, 1, activate=False) for width in widths.values())


def image_at_lod(growth: Growth, torgb: nn.ModuleList, features: Mapping[int, Tensor]) -> Tensor:
    """The image at the highest resolution in use, scaled to the full size of the network, from features (N, C, H, W) by
    resolution (0 is 4 px).

    While a resolution fades in, its image is blended with that of the one below (figure 2b).
    """
    top = max(features)
    img = torgb[top](features[top])
    if growth.fade:
        img = img.lerp(upsample_nearest(torgb[top - 1](features[top - 1]), 2), growth.fade)
    return upsample_nearest(img, 2**growth.level)


# --- generator ------------------------------------------------------------------------------------------------------


class FirstBlock(nn.Module):
    """z -> 4x4 features."""

    def __init__(self, in_features: int, channels: int) -> None:
        super().__init__()
        # One bias per channel, which the authors add after the dense layer, whose gain they divide by 4.
        self.weight = nn.Parameter(torch.randn(channels * 16, in_features))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = SQRT2 / 4 / math.sqrt(in_features)
        self.conv = Conv(channels, channels, 3)

    def forward(self, z: Tensor) -> Tensor:
        """(N, in_features) -> (N, channels, 4, 4)."""
        x = F.linear(z, self.weight * self.scale).unflatten(1, (-1, 4, 4)) + self.bias.view(1, -1, 1, 1)
        return pixel_norm(self.conv(pixel_norm(leaky_relu(x))))


class Block(nn.Module):
    """Upsampling and two convolutions, each followed by pixel norm (section 4.2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv0 = Conv(in_channels, out_channels, 3, up=2)
        self.conv1 = Conv(out_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, 2H, 2W)."""
        return pixel_norm(self.conv1(pixel_norm(self.conv0(x))))


class Synthesis(SynthesisNetwork):
    """z on the hypersphere -> a chain of blocks -> RGB at the highest resolution in use."""

    def __init__(self, *, w_dim: int, resolution: int, img_channels: int, channel_base: int, channel_max: int) -> None:
        super().__init__(num_ws=1, w_dim=w_dim)
        widths = block_widths(resolution, channel_base, channel_max)
        self.growth = Growth()
        blocks = [FirstBlock(w_dim, widths[4]), *(Block(*pair) for pair in pairwise(widths.values()))]
        self.blocks = nn.ModuleList(blocks)
        self.torgb = to_rgb(widths, img_channels)

    def synthesize(self, ws: Tensor, noise: Sequence[Tensor | None]) -> Tensor:
        """ws (N, 1, w_dim) -> images (N, C, H, W), unbounded."""
        x, features = pixel_norm(ws[:, 0]), {}
        for index, block in enumerate(self.blocks[: len(self.blocks) - self.growth.level]):
            features[index] = x = block(x)
        return image_at_lod(self.growth, self.torgb, features)


class Generator(IdentityMappingGenerator):
    """z -> image; feature maps at resolution r: min(channel_base / r, channel_max).

    Only the direction of w matters (pixel norm comes first), so truncation has no effect without labels.
    """

    progressive = True

    def __init__(
        self, *, resolution: int, z_dim: int = 512, c_dim: int = 0, img_channels: int = 3,
        channel_base: int = 16384, channel_max: int = 512,
    ) -> None:  # fmt: skip
        super().__init__(resolution=resolution, z_dim=z_dim, c_dim=c_dim, img_channels=img_channels)
        size = {"resolution": resolution, "channel_base": channel_base, "channel_max": channel_max}
        self.synthesis = Synthesis(w_dim=self.w_dim, img_channels=img_channels, **size)


# --- discriminator --------------------------------------------------------------------------------------------------


class DiscriminatorBlock(nn.Module):
    """Two convolutions and downsampling; StyleGAN blurs before the second one (`blurs`)."""

    def __init__(self, in_channels: int, out_channels: int, *, blurs: bool) -> None:
        super().__init__()
        self.conv0 = Conv(in_channels, in_channels, 3)
        self.conv1 = Conv(in_channels, out_channels, 3, down=2)
        self.blurs = blurs

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H/2, W/2)."""
        x = self.conv0(x)
        return self.conv1(blur(x) if self.blurs else x)


class Epilogue(nn.Module):
    """4x4 features -> one logit, or one per class, with the minibatch standard deviation (section 3)."""

    def __init__(self, channels: int, hidden: int, *, num_logits: int, mbstd_group_size: int) -> None:
        super().__init__()
        self.mbstd_group_size = mbstd_group_size
        self.conv = Conv(channels + 1, channels, 3)
        self.dense = Dense(channels * 16, hidden, activate=True)
        self.out = Dense(hidden, num_logits)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, 4, 4) -> (N, num_logits)."""
        x = minibatch_stddev(x, self.mbstd_group_size)
        return self.out(self.dense(self.conv(x).flatten(1)))


class Discriminator(DiscriminatorNetwork):
    """The generator's mirror image; with labels, the logit of the label is selected.

    `mbstd_group_size`: images per group of the minibatch standard deviation, which must divide the batch
    (the whole batch in the paper, 4 in the authors' code).
    """

    progressive = True
    blurs = False
    logit_layer = "epilogue.out"

    def __init__(
        self, *, resolution: int, c_dim: int = 0, img_channels: int = 3,
        channel_base: int = 16384, channel_max: int = 512, mbstd_group_size: int = 4,
    ) -> None:  # fmt: skip
        super().__init__(resolution=resolution, c_dim=c_dim, img_channels=img_channels)
        widths = block_widths(resolution, channel_base, channel_max)
        self.growth = Growth()
        self.fromrgb = nn.ModuleList(Conv(img_channels, width, 1) for width in widths.values())
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(wide, narrow, blurs=self.blurs) for narrow, wide in pairwise(widths.values())
        )
        hidden = num_channels(2, channel_base, channel_max)
        self.epilogue = Epilogue(widths[4], hidden, num_logits=max(c_dim, 1), mbstd_group_size=mbstd_group_size)

    def logits(self, img: Tensor, c: Tensor | None) -> Tensor:
        """Images (N, img_channels, resolution, resolution), labels (N, c_dim) -> logits (N, 1)."""
        x = self.epilogue(self.features(img.to(torch.float32)))
        return x if c is None else (x * c.to(x.dtype)).sum(dim=1, keepdim=True)

    def layers_from_image(self) -> list[nn.Module]:
        """The blocks, each with the layer that reads the image while it is the highest one in use."""
        pairs = list(zip(self.fromrgb[1:], self.blocks, strict=True))[::-1]
        return [layer for fromrgb, block in pairs for layer in (fromrgb, *block.children())]

    def features(self, img: Tensor) -> Tensor:
        """Images -> (N, channels, 4, 4), each image independently, from the highest resolution in use."""
        img = downsample_mean(img, 2**self.growth.level)
        top = len(self.blocks) - self.growth.level
        x = self.fromrgb[top](img)
        for index in range(top - 1, -1, -1):
            x = self.blocks[index](x)
            if index == top - 1 and self.growth.fade:
                x = x.lerp(self.fromrgb[index](downsample_mean(img, 2)), self.growth.fade)
        return x
