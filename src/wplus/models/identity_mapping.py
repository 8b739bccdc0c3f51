"""What generators without a mapping network share with those that have one: w is z (and the label), one for all layers.

So sampling, metrics, inversion and interpolation, which speak of `mapping` and `synthesis`, work with them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.models.network import GeneratorNetwork, MappingNetwork, SynthesisNetwork, check_label


def with_label(x: Tensor, c: Tensor | None, c_dim: int) -> Tensor:
    """Append labels (N, c_dim) to vectors (N, D) -> (N, D + c_dim); UserError where they do not fit."""
    c = check_label(c, c_dim)
    return x if c is None else torch.cat([x, c.to(x.dtype)], dim=1)


class IdentityMapping(MappingNetwork):
    """w = z, with the label behind it. The mean of z is 0, and so is `w_avg`: truncation scales z."""

    def __init__(self, *, z_dim: int, c_dim: int) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.num_ws = z_dim, c_dim, 1
        self.register_buffer("w_avg", torch.zeros(z_dim + c_dim))

    def forward(
        self, z: Tensor, c: Tensor | None = None, truncation_psi: float = 1.0, truncation_cutoff: int | None = None
    ) -> Tensor:
        """z (N, z_dim), c (N, c_dim) one-hot -> ws (N, 1, z_dim + c_dim).

        Truncation multiplies z by psi and leaves the label alone; `truncation_cutoff` 0 switches it off.
        """
        if z.shape[1:] != (self.z_dim,):
            raise UserError(f"z must be (N, {self.z_dim}), got {tuple(z.shape)}")
        z = z.to(torch.float32)
        if truncation_cutoff != 0 and truncation_psi != 1:
            z = z * truncation_psi
        return with_label(z, c, self.c_dim).unsqueeze(1)

    def update_w_avg(self, batch_mean: Tensor) -> None:
        """Nothing to track: the mean of z is known."""


class UnmappedSynthesis(SynthesisNetwork):
    """w -> image, one w for all layers, without noise; a subclass implements `paint`."""

    num_ws = 1

    def __init__(self, *, w_dim: int) -> None:
        super().__init__()
        self.w_dim = w_dim

    def paint(self, w: Tensor) -> Tensor:
        """w (N, w_dim) -> images (N, C, H, W)."""
        raise NotImplementedError

    def synthesize(self, ws: Tensor, noise: Sequence[Tensor | None]) -> Tensor:
        """ws (N, 1, w_dim) -> images (N, C, H, W)."""
        return self.paint(ws[:, 0])


class UnmappedGenerator(GeneratorNetwork):
    """A generator whose `mapping` is the identity and whose `synthesis` is what a subclass sets."""

    num_ws = 1

    def __init__(self, *, resolution: int, z_dim: int, c_dim: int, img_channels: int) -> None:
        super().__init__()
        self.resolution, self.img_channels = resolution, img_channels
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, z_dim + c_dim
        self.mapping = IdentityMapping(z_dim=z_dim, c_dim=c_dim)
