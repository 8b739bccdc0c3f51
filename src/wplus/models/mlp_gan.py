"""The first GAN (Goodfellow et al., "Generative Adversarial Nets", 2014): two multi-layer perceptrons.

Rectified linear units and a sigmoid in the generator; maxout and dropout in the discriminator (section 5 and the
authors' settings for MNIST). z is normal, as everywhere here, instead of uniform as the authors'. Labels, if any, are a
further input of both networks (Mirza and Osindero 2014).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from wplus.models.discriminator import DiscriminatorNetwork
from wplus.models.generator import SynthesisNetwork
from wplus.models.layers import dropped
from wplus.models.mapping import IdentityMappingGenerator, with_label


class Synthesis(SynthesisNetwork):
    """z and label -> pixels."""

    def __init__(self, *, w_dim: int, resolution: int, img_channels: int, width: int, num_layers: int) -> None:
        super().__init__(num_ws=1, w_dim=w_dim)
        self.shape = (img_channels, resolution, resolution)
        widths = [w_dim] + [width] * num_layers
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.out = nn.Linear(width, img_channels * resolution**2)

    def synthesize(self, ws: Tensor, noise: Sequence[Tensor | None]) -> Tensor:
        """ws (N, 1, w_dim) -> images (N, C, H, W) in [-1, 1]."""
        x = ws[:, 0]
        for layer in self.hidden:
            x = layer(x).relu()
        # The paper's sigmoid with range [0, 1], rescaled to our images: 2 sigmoid(x) - 1 = tanh(x / 2).
        return (self.out(x) / 2).tanh().unflatten(1, self.shape)


class Generator(IdentityMappingGenerator):
    """z -> image through `num_layers` hidden layers of `width` units."""

    def __init__(
        self, *, resolution: int, z_dim: int = 100, c_dim: int = 0, img_channels: int = 3,
        width: int = 1200, num_layers: int = 2,
    ) -> None:  # fmt: skip
        super().__init__(resolution=resolution, z_dim=z_dim, c_dim=c_dim, img_channels=img_channels)
        size = {"resolution": resolution, "img_channels": img_channels, "width": width, "num_layers": num_layers}
        self.synthesis = Synthesis(w_dim=self.w_dim, **size)


class Maxout(nn.Module):
    """y_i = max_j x^T W_ij + b_ij over `num_pieces` linear maps (Goodfellow et al., "Maxout Networks", 2013)."""

    def __init__(self, in_features: int, out_features: int, *, num_pieces: int) -> None:
        super().__init__()
        self.num_pieces = num_pieces
        self.linear = nn.Linear(in_features, out_features * num_pieces)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_features) -> (N, out_features)."""
        return self.linear(x).unflatten(1, (-1, self.num_pieces)).amax(dim=2)


class Discriminator(DiscriminatorNetwork):
    """Image -> logit through two maxout layers of `width` units, with dropout before each layer in training."""

    drops_units = True

    def __init__(
        self, *, resolution: int, c_dim: int = 0, img_channels: int = 3,
        width: int = 240, num_pieces: int = 5, dropout_input: float = 0.2, dropout: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__(resolution=resolution, c_dim=c_dim, img_channels=img_channels)
        self.layers = nn.Sequential(
            nn.Dropout(dropout_input),
            Maxout(img_channels * resolution**2 + c_dim, width, num_pieces=num_pieces),
            nn.Dropout(dropout),
            Maxout(width, width, num_pieces=num_pieces),
            nn.Dropout(dropout),
            nn.Linear(width, 1),
        )

    def layers_from_image(self) -> list[nn.Module]:
        """The maxout layers."""
        return [layer for layer in self.layers if isinstance(layer, Maxout)]

    def logits(self, img: Tensor, c: Tensor | None) -> Tensor:
        """Images (N, img_channels, resolution, resolution), labels (N, c_dim) -> logits (N, 1)."""
        x = with_label(img.to(torch.float32).flatten(1), c)
        for layer in self.layers:
            x = dropped(x, layer.p) if isinstance(layer, nn.Dropout) and self.training and 0 < layer.p < 1 else layer(x)
        return x
