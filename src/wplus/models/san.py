"""Slicing adversarial networks (Takida et al. 2024, "SAN: Inducing Metrizability of GAN with Discriminative Normalized
Linear Layer", arXiv:2301.12811): the last layer of a discriminator is a unit direction that is trained separately.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.errors import UserError
from wplus.models.discriminator import DiscriminatorAround, DiscriminatorNetwork, rebuilt_discriminator


class Direction(nn.Module):
    """<w, h + b> with a unit vector w that receives no gradient from it (equation 14).

    While `teaches`, a second column has the same values but only passes gradients to w.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, in_features))
        self.bias = nn.Parameter(torch.zeros(in_features))
        self.teaches = False

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_features) -> (N, 1), or (N, 2)."""
        w, x = F.normalize(self.weight, dim=1), x + self.bias
        y = x @ w.detach().t()
        return torch.cat([y, x.detach() @ w.t()], dim=1) if self.teaches else y


class San(DiscriminatorAround):
    """A model's own discriminator, without labels, whose last linear layer is a `Direction`.

    pixel  the discriminator, or a description of one (`wplus.models.network.described`)
    """

    def __init__(
        self, *, pixel: DiscriminatorNetwork | Mapping[str, Any], resolution: int, c_dim: int = 0, img_channels: int = 3
    ) -> None:
        super().__init__(resolution=resolution, c_dim=c_dim, img_channels=img_channels)
        self.pixel = pixel if isinstance(pixel, DiscriminatorNetwork) else rebuilt_discriminator(pixel)
        if c_dim or not self.pixel.logit_layer:
            what = f"{c_dim} classes" if c_dim else f"a last layer that is not linear ({type(self.pixel).__module__})"
            raise UserError(
                f"discriminator=san needs a discriminator without labels and a linear last layer, got {what}."
            )
        name, _, last = self.pixel.logit_layer.rpartition(".")
        parent = self.pixel.get_submodule(name)
        width = getattr(parent, last).weight.shape[1]
        setattr(parent, last, Direction(width))

    @property
    def direction(self) -> Direction:
        """The last layer."""
        layer = self.pixel.get_submodule(self.pixel.logit_layer)
        assert isinstance(layer, Direction)
        return layer

    def logits(self, img: Tensor, c: Tensor | None) -> Tensor:
        """Images (N, img_channels, resolution, resolution) -> logits (N, 1)."""
        return self.pixel.logits(img, c)

    def learned_logits(self, img: Tensor, c: Tensor | None) -> Tensor:
        """(N, 2): logits for the loss, and logits that train the direction."""
        self.direction.teaches = True
        try:
            return self.pixel(img, c)
        finally:
            self.direction.teaches = False
