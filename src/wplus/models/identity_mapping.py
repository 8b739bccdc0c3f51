"""What generators without a mapping network share with those that have one: w is z (and the label), one for all layers.

So sampling, metrics, inversion and interpolation, which speak of `mapping` and `synthesis`, work with them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wplus.errors import UserError
from wplus.models.network import GeneratorNetwork


def with_label(x: Tensor, c: Tensor | None, c_dim: int) -> Tensor:
    """Append labels (N, c_dim) to vectors (N, D) -> (N, D + c_dim); UserError where they do not fit."""
    if not c_dim:
        return x
    if c is None or c.shape[1:] != (c_dim,):
        raise UserError(
            f"Labels of shape {None if c is None else tuple(c.shape)} do not fit; "
            f"this conditional network takes (N, {c_dim})."
        )
    return torch.cat([x, c.to(x.dtype)], dim=1)


class IdentityMapping(nn.Module):
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
            raise UserError(f"z of shape {tuple(z.shape)} does not fit; it must be (N, {self.z_dim}).")
        z = z.to(torch.float32)
        if truncation_cutoff != 0 and truncation_psi != 1:
            z = z * truncation_psi
        return with_label(z, c, self.c_dim).unsqueeze(1)

    def update_w_avg(self, batch_mean: Tensor) -> None:
        """Nothing to track: the mean of z is known."""


class UnmappedSynthesis(nn.Module):
    """w -> image, without noise inputs; a subclass implements `paint`."""

    num_ws = 1

    def __init__(self, *, w_dim: int) -> None:
        super().__init__()
        self.w_dim = w_dim

    def paint(self, w: Tensor) -> Tensor:
        """w (N, w_dim) -> images (N, C, H, W)."""
        raise NotImplementedError

    @property
    def noise_shapes(self) -> list[tuple[int, int]]:
        """None of its layers takes noise."""
        return []

    def const_noise(self) -> list[Tensor]:
        """None."""
        return []

    def random_noise(self, num: int) -> list[Tensor]:
        """None."""
        return []

    def forward(self, ws: Tensor, noise_mode: str = "const", noise: Sequence[Tensor] | None = None) -> Tensor:
        """ws (N, 1, w_dim) -> images (N, C, H, W), about [-1, 1]; the noise mode makes no difference."""
        if ws.shape[1:] != (1, self.w_dim):
            raise UserError(f"ws of shape {tuple(ws.shape)} does not fit; it must be (N, 1, {self.w_dim}).")
        if noise_mode not in ("const", "random", "none"):
            raise UserError(f"Noise mode '{noise_mode}' is not known; it must be const, random or none.")
        if noise:
            raise UserError(f"{len(noise)} noise maps were given; this generator takes none.")
        return self.paint(ws[:, 0].to(torch.float32))


class UnmappedGenerator(GeneratorNetwork):
    """A generator whose `mapping` is the identity and whose `synthesis` is what a subclass sets."""

    num_ws = 1

    def __init__(self, *, resolution: int, z_dim: int, c_dim: int, img_channels: int) -> None:
        super().__init__()
        self.resolution, self.img_channels = resolution, img_channels
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, z_dim + c_dim
        self.mapping = IdentityMapping(z_dim=z_dim, c_dim=c_dim)


def check_images(img: Tensor, img_channels: int, resolution: int) -> None:
    """UserError unless `img` is (N, img_channels, resolution, resolution)."""
    expected = (img_channels, resolution, resolution)
    if tuple(img.shape[1:]) != expected:
        raise UserError(
            f"Images of shape {tuple(img.shape)} do not fit; this discriminator takes (N, {str(expected)[1:]}."
        )
