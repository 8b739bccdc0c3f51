"""A small classifier of several factors at once: one residual trunk, one head for each factor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wplus.errors import UserError
from wplus.models.encoders.small import Normalise, maps_of, trunk
from wplus.models.network import Network


class AttributeNet(Network):
    """Images (N, img_channels, input_size, input_size) in [-1, 1] -> logits (N, sum of num_classes).

    Images come to a map of side 16 by strided convolutions, then follow three residual units, each at half the side of
    the last, and the mean over positions. Group normalisation: the images of a batch never mix. At width 32 it has
    0.36 M parameters.

    num_classes  of each factor, at least 2; the factors' logits stand side by side in this order
    input_size   a power of two from 8 up
    width        a multiple of 16
    """

    def __init__(self, *, num_classes: Sequence[int], input_size: int, img_channels: int = 3, width: int = 32) -> None:
        super().__init__()
        if not num_classes or min(num_classes) < 2:
            raise UserError(f"num_classes={list(num_classes)} is not allowed: every factor has two classes or more.")
        if input_size < 8 or input_size & (input_size - 1):
            raise UserError(f"input_size={input_size} is not allowed; it must be a power of two from 8 up.")
        self.num_classes, self.input_size, self.img_channels = tuple(num_classes), input_size, img_channels
        self.stem, self.units, self.downs, channels = trunk(img_channels, width, input_size=input_size)
        self.norm = Normalise(channels[-1])
        self.heads = nn.Linear(channels[-1], sum(num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """(N, img_channels, input_size, input_size) -> (N, sum of num_classes)."""
        coarse = maps_of(images, self.stem, self.units, self.downs)[-1]  # (N, 3 width, 4, 4)
        return self.heads(self.norm(coarse).mean(dim=(2, 3)))

    def factors(self, logits: Tensor) -> list[Tensor]:
        """Logits (N, sum of num_classes) -> those of each factor, (N, its classes)."""
        return list(torch.split(logits, list(self.num_classes), dim=1))
