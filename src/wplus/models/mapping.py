"""Mapping networks (z and a label to w): StyleGAN's, and the identity for generators that have none."""

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.models.generator import GeneratorNetwork, MappingNetwork, check_label
from wplus.models.layers import EqualizedLinear, normalize_second_moment

W_AVG_BETA = 0.995  # decay of the running mean of w, published for updates in every forward pass; here once per step


class MappingMLP(MappingNetwork):
    """Normalised z (and embedded label), then `num_layers` equalised layers at a hundredth of the learning rate
    (StyleGAN, figure 1b; labels as in StyleGAN2-ADA).

    A discriminator uses it to map labels only, by calling `w`; then z_dim and num_ws are 0 and there is no mean.
    """

    def __init__(self, *, z_dim: int, c_dim: int, w_dim: int, num_ws: int, num_layers: int) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.num_ws, self.num_layers = z_dim, c_dim, num_ws, num_layers
        widths = [z_dim + (w_dim if c_dim else 0)] + [w_dim] * num_layers
        if c_dim:
            self.embed = EqualizedLinear(c_dim, w_dim)
        for i in range(num_layers):
            setattr(self, f"fc{i}", EqualizedLinear(widths[i], widths[i + 1], activate=True, lr_mul=0.01))
        if num_ws:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self, z: Tensor, c: Tensor | None = None, truncation_psi: float = 1.0, truncation_cutoff: int | None = None
    ) -> Tensor:
        """z (N, z_dim), c (N, c_dim) one-hot -> ws (N, num_ws, w_dim)."""
        ws = self.w(z, c).unsqueeze(1).repeat(1, self.num_ws, 1)
        return self.truncate(ws, truncation_psi, truncation_cutoff)

    def w(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        """z (N, z_dim), None for z_dim 0, and c (N, c_dim) -> w (N, w_dim)."""
        x = self.inputs(z, c)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        return x

    def inputs(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        """The input of the first layer."""
        parts = [normalize_second_moment(check_z(z, self.z_dim))] if self.z_dim else []
        if (c := check_label(c, self.c_dim)) is not None:
            parts.append(normalize_second_moment(self.embed(c.to(torch.float32))))
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def update_w_avg(self, batch_mean: Tensor) -> None:
        """Move w_avg towards the mean w of a training batch, (w_dim,)."""
        self.w_avg.lerp_(batch_mean.to(self.w_avg.dtype), 1 - W_AVG_BETA)


def check_z(z: Tensor | None, z_dim: int) -> Tensor:
    """z in float32; UserError unless it is (N, z_dim)."""
    if z is None or z.shape[1:] != (z_dim,):
        raise UserError(f"z must be (N, {z_dim}), got {None if z is None else tuple(z.shape)}.")
    return z.to(torch.float32)


# --- generators without a mapping network ----------------------------------------------------------------------------


class IdentityMapping(MappingNetwork):
    """w = z, concatenated with the label, shared by all layers. It lets code based on `mapping` and `synthesis` work
    with generators that have no mapping network. z has mean 0, and so has `w_avg`: truncation scales z."""

    def __init__(self, *, z_dim: int, c_dim: int) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.num_ws = z_dim, c_dim, 1
        self.register_buffer("w_avg", torch.zeros(z_dim + c_dim))

    def forward(
        self, z: Tensor, c: Tensor | None = None, truncation_psi: float = 1.0, truncation_cutoff: int | None = None
    ) -> Tensor:
        """z (N, z_dim), c (N, c_dim) one-hot -> ws (N, 1, z_dim + c_dim); truncation leaves the label alone."""
        ws = with_label(check_z(z, self.z_dim), check_label(c, self.c_dim)).unsqueeze(1)
        return self.truncate(ws, truncation_psi, truncation_cutoff)

    def truncate(self, ws: Tensor, psi: float, cutoff: int | None) -> Tensor:
        """Replace z by psi z in ws (N, 1, z_dim + c_dim)."""
        if psi == 1 or cutoff == 0:
            return ws
        z, c = ws.split([self.z_dim, self.c_dim], dim=2)
        return torch.cat([psi * z, c], dim=2)


def with_label(x: Tensor, c: Tensor | None) -> Tensor:
    """Concatenate vectors (N, D) and labels (N, c_dim): (N, D + c_dim)."""
    return x if c is None else torch.cat([x, c.to(x.dtype)], dim=1)


class IdentityMappingGenerator(GeneratorNetwork):
    """A generator whose `mapping` is the identity. Subclasses set `synthesis`."""

    num_ws = 1

    def __init__(self, *, resolution: int, z_dim: int, c_dim: int, img_channels: int) -> None:
        super().__init__(
            resolution=resolution, z_dim=z_dim, w_dim=z_dim + c_dim, c_dim=c_dim, img_channels=img_channels, num_ws=1
        )
        self.mapping = IdentityMapping(z_dim=z_dim, c_dim=c_dim)
