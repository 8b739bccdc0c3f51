"""DCGAN (Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", 2016): strided convolutions instead of pooling, batch normalisation in both networks, no hidden dense layer.

z is normal, as everywhere here, instead of uniform as in the paper (figure 1).
Labels, if any, are concatenated to z, and to the image as constant maps (Mirza and Osindero 2014).
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.models.discriminator import DiscriminatorNetwork
from wplus.models.generator import SynthesisNetwork
from wplus.models.layers import SLOPE, block_widths
from wplus.models.mapping import IdentityMappingGenerator

DEVIATION = 0.02  # all weights start from N(0, 0.02^2) (section 4)


def initialise(network: nn.Module) -> None:
    """Initialise as in section 4, with the gains of normalisation layers from the authors' N(1, 0.02^2)."""
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, DEVIATION)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, DEVIATION)


# 5x5 convolutions, fractionally strided to double the resolution (figure 1) and strided to halve it, with a bias only
# if no normalisation follows.
up = partial(nn.ConvTranspose2d, kernel_size=5, stride=2, padding=2, output_padding=1, bias=False)
down = partial(nn.Conv2d, kernel_size=5, stride=2, padding=2, bias=False)


class Synthesis(SynthesisNetwork):
    """z -> 4x4 features -> ... -> image; batch norm and ReLU everywhere except at the tanh output (figure 1)."""

    def __init__(self, *, w_dim: int, resolution: int, img_channels: int, channel_base: int, channel_max: int) -> None:
        super().__init__(num_ws=1, w_dim=w_dim)
        widths = [*block_widths(resolution, channel_base, channel_max).values()][:-1]
        self.project = nn.Linear(w_dim, widths[0] * 16, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.ups = nn.ModuleList(up(*pair) for pair in pairwise(widths))
        self.out = up(widths[-1], img_channels, bias=True)

    def synthesize(self, ws: Tensor, noise: Sequence[Tensor | None]) -> Tensor:
        """ws (N, 1, w_dim) -> images (N, C, H, W) in [-1, 1]."""
        x = self.project(ws[:, 0]).unflatten(1, (-1, 4, 4))
        x = self.norms[0](x).relu()
        for layer, norm in zip(self.ups, self.norms[1:], strict=True):
            x = norm(layer(x)).relu()  # (N, channels, 2H, 2W)
        return self.out(x).tanh()


class Generator(IdentityMappingGenerator):
    """z -> image; feature maps at resolution r: min(channel_base / r, channel_max), 1024 at 4 px as published."""

    batch_norm, from_image = True, ("synthesis.out",)

    def __init__(
        self, *, resolution: int, z_dim: int = 100, c_dim: int = 0, img_channels: int = 3,
        channel_base: int = 4096, channel_max: int = 1024,
    ) -> None:  # fmt: skip
        super().__init__(resolution=resolution, z_dim=z_dim, c_dim=c_dim, img_channels=img_channels)
        size = {"resolution": resolution, "channel_base": channel_base, "channel_max": channel_max}
        self.synthesis = Synthesis(w_dim=self.w_dim, img_channels=img_channels, **size)
        initialise(self)


class Discriminator(DiscriminatorNetwork):
    """The generator's mirror image: strided convolutions, batch norm everywhere except at the input, leaky ReLU."""

    batch_norm, from_image = True, ("read", "downs", "norms")
    logit_layer = "out"

    def __init__(
        self, *, resolution: int, c_dim: int = 0, img_channels: int = 3, channel_base: int = 4096,
        channel_max: int = 1024,
    ) -> None:  # fmt: skip
        super().__init__(resolution=resolution, c_dim=c_dim, img_channels=img_channels)
        widths = [*block_widths(resolution, channel_base, channel_max).values()][-2::-1]
        self.read = down(img_channels + c_dim, widths[0], bias=True)
        self.downs = nn.ModuleList(down(*pair) for pair in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.out = nn.Linear(widths[-1] * 16, 1)
        initialise(self)

    def layers_from_image(self) -> list[nn.Module]:
        """Every convolution, with the normalisation that follows it."""
        return [self.read, *(nn.ModuleList(pair) for pair in zip(self.downs, self.norms, strict=True))]

    def logits(self, img: Tensor, c: Tensor | None) -> Tensor:
        """Images (N, img_channels, resolution, resolution), labels (N, c_dim) -> logits (N, 1)."""
        img = img.to(torch.float32)
        if c is not None:  # one map per class, 1 for the image's class
            img = torch.cat([img, c.to(img.dtype)[:, :, None, None].expand(-1, -1, *img.shape[2:])], dim=1)
        x = F.leaky_relu(self.read(img), SLOPE)
        for layer, norm in zip(self.downs, self.norms, strict=True):
            x = F.leaky_relu(norm(layer(x)), SLOPE)  # (N, channels, H/2, W/2)
        return self.out(x.flatten(1))
