"""R3GAN (Huang et al., "The GAN is dead; long live the GAN! A Modern GAN Baseline", 2024): both networks.

Residual networks without normalisation, with grouped convolutions in inverted bottlenecks (the paper's config E),
initialised so that every residual branch is zero (Fixup, Zhang et al. 2019). The networks mirror each other.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.models.convolution import conv2d
from wplus.models.discriminator import DiscriminatorNetwork
from wplus.models.generator import SynthesisNetwork
from wplus.models.layers import SLOPE, ResolutionBlock, block_widths
from wplus.models.mapping import IdentityMappingGenerator
from wplus.models.ops import downsample, upsample

GAIN = math.sqrt(2 / (1 + SLOPE**2))  # keeps the variance through a leaky ReLU (He et al. 2015)
EXPANSION = 2  # of a residual block's inner width
GROUP_WIDTH = 16  # channels per group, as published: 96 groups for the 1536 inner channels at width 768
NUM_BLOCKS = 2  # residual blocks at each resolution


class Convolution(nn.Module):
    """Convolution without bias, weights from N(0, gain^2 / fan-in)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, groups: int = 1, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.groups, self.padding = groups, kernel_size // 2
        weight = torch.randn(out_channels, in_channels // groups, kernel_size, kernel_size)
        self.weight = nn.Parameter(weight * (gain / math.sqrt(weight[0].numel())))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        return conv2d(x, self.weight.to(x.dtype), padding=self.padding, groups=self.groups)


class BiasedActivation(nn.Module):
    """lrelu(x + b)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same."""
        return F.leaky_relu(x + self.bias.to(x.dtype).view(1, -1, 1, 1), SLOPE)


class ResidualBlock(nn.Module):
    """x + f(x), f = 1x1 - grouped 3x3 - 1x1. With L blocks in the network, the first weights are scaled by
    L^(-1 / (2 m - 2)) for m = 3 convolutions, and the last ones are zero (Fixup, section 3)."""

    def __init__(self, channels: int, *, num_blocks: int) -> None:
        super().__init__()
        inner = channels * EXPANSION
        gain = GAIN * num_blocks ** (-1 / (2 * 3 - 2))
        self.conv1 = Convolution(channels, inner, 1, gain=gain)
        self.act1 = BiasedActivation(inner)
        self.conv2 = Convolution(inner, inner, 3, groups=inner // math.gcd(inner, GROUP_WIDTH), gain=gain)
        self.act2 = BiasedActivation(inner)
        self.conv3 = Convolution(inner, channels, 1, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same."""
        return x + self.conv3(self.act2(self.conv2(self.act1(self.conv1(x)))))


class Stage(ResolutionBlock):
    """The residual blocks of one resolution; `num_blocks` is their number in the whole network."""

    def __init__(self, channels: int, *, resolution: int, num_blocks: int) -> None:
        super().__init__(resolution=resolution)
        self.blocks = nn.Sequential(*(ResidualBlock(channels, num_blocks=num_blocks) for _ in range(NUM_BLOCKS)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same."""
        return self.blocks(x.to(self.compute_dtype))


def stages(widths: dict[int, int]) -> nn.ModuleList:
    """One stage per resolution, of the given width."""
    num_blocks = NUM_BLOCKS * len(widths)
    return nn.ModuleList(Stage(width, resolution=res, num_blocks=num_blocks) for res, width in widths.items())


def transition(in_channels: int, out_channels: int) -> nn.Module:
    """A 1x1 convolution if the width changes, next to the filter that changes the resolution.

    The filter is StyleGAN2's [1, 3, 3, 1]: the published [1, 2, 1] acts on pixels that were doubled before it, or whose
    pairs are averaged after it, and [1, 2, 1] * [1, 1] = [1, 3, 3, 1].
    """
    return nn.Identity() if in_channels == out_channels else Convolution(in_channels, out_channels, 1)


def basis_linear(in_features: int, out_features: int, *, gain: float = 1.0) -> nn.Linear:
    """Linear map without bias, weights from N(0, gain^2 / fan-in)."""
    linear = nn.Linear(in_features, out_features, bias=False)
    nn.init.normal_(linear.weight, 0.0, gain / math.sqrt(in_features))
    return linear


# --- generator ------------------------------------------------------------------------------------------------------


class Synthesis(SynthesisNetwork):
    """z and the embedded label scale a learned 4x4 basis, followed by alternating stages and upsampling."""

    def __init__(
        self, *, z_dim: int, c_dim: int, resolution: int, img_channels: int, channel_base: int, channel_max: int
    ) -> None:
        super().__init__(num_ws=1, w_dim=z_dim + c_dim)
        self.z_dim = z_dim
        widths = block_widths(resolution, channel_base, channel_max)
        self.embed = basis_linear(c_dim, z_dim) if c_dim else None
        self.basis = nn.Parameter(torch.randn(widths[4], 4, 4))
        self.linear = basis_linear(z_dim * (2 if c_dim else 1), widths[4])
        self.transitions = nn.ModuleList(transition(*pair) for pair in pairwise(widths.values()))
        self.stages = stages(widths)
        self.torgb = Convolution(widths[resolution], img_channels, 1)

    def synthesize(self, ws: Tensor, noise: Sequence[Tensor | None]) -> Tensor:
        """ws (N, 1, z_dim + c_dim) -> images (N, C, H, W), unbounded."""
        w = ws[:, 0]
        if self.embed is not None:
            w = torch.cat([w[:, : self.z_dim], self.embed(w[:, self.z_dim :])], dim=1)
        x = self.basis * self.linear(w)[:, :, None, None]  # (N, channels, 4, 4)
        x = self.stages[0](x.contiguous(memory_format=torch.channels_last))
        for change, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(upsample(change(x)))  # (N, channels, 2H, 2W)
        return self.torgb(x.to(torch.float32))


class Generator(IdentityMappingGenerator):
    """z -> image; feature maps at resolution r: min(channel_base / r, channel_max), as published 768 up to 32 px."""

    from_image = ("synthesis.torgb",)

    def __init__(
        self, *, resolution: int, z_dim: int = 64, c_dim: int = 0, img_channels: int = 3,
        channel_base: int = 24576, channel_max: int = 768,
    ) -> None:  # fmt: skip
        super().__init__(resolution=resolution, z_dim=z_dim, c_dim=c_dim, img_channels=img_channels)
        size = {"resolution": resolution, "channel_base": channel_base, "channel_max": channel_max}
        self.synthesis = Synthesis(z_dim=z_dim, c_dim=c_dim, img_channels=img_channels, **size)


# --- discriminator --------------------------------------------------------------------------------------------------


class Discriminator(DiscriminatorNetwork):
    """Alternating stages and downsampling, a learned 4x4 basis per channel, and a linear map; with labels its output is
    projected onto the label's embedding."""

    from_image = ("fromrgb", "stages", "transitions")
    logit_layer = "linear"

    def __init__(
        self, *, resolution: int, c_dim: int = 0, img_channels: int = 3, channel_base: int = 24576,
        channel_max: int = 768,
    ) -> None:  # fmt: skip
        super().__init__(resolution=resolution, c_dim=c_dim, img_channels=img_channels)
        widths = dict(reversed(block_widths(resolution, channel_base, channel_max).items()))
        self.fromrgb = Convolution(img_channels, widths[resolution], 1)
        self.stages = stages(widths)
        self.transitions = nn.ModuleList(transition(*pair) for pair in pairwise(widths.values()))
        self.basis = nn.Parameter(torch.randn(widths[4], 4, 4) / 4)  # fan-in 16
        self.linear = basis_linear(widths[4], widths[4] if c_dim else 1)
        if c_dim:
            self.embed = basis_linear(c_dim, widths[4], gain=1 / math.sqrt(widths[4]))

    def layers_from_image(self) -> list[nn.Module]:
        """The convolution from RGB, then residual blocks and the convolutions that change the width between them."""
        layers: list[nn.Module] = [self.fromrgb]
        for change, stage in zip([None, *self.transitions], self.stages, strict=True):
            layers += [change] if isinstance(change, Convolution) else []
            layers += stage.get_submodule("blocks").children()
        return layers

    def logits(self, img: Tensor, c: Tensor | None) -> Tensor:
        """Images (N, img_channels, resolution, resolution), labels (N, c_dim) -> logits (N, 1)."""
        x = self.stages[0](self.fromrgb(img.to(torch.float32).contiguous(memory_format=torch.channels_last)))
        for change, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(change(downsample(x)))  # (N, channels, H/2, W/2)
        x = self.linear((x.to(torch.float32) * self.basis).sum(dim=(2, 3)))
        return x if c is None else (x * self.embed(c.to(x.dtype))).sum(dim=1, keepdim=True)
