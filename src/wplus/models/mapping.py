"""The mapping network of StyleGAN and StyleGAN2 (Karras et al. 2019, figure 1b): z and a label to w."""

from __future__ import annotations

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.models.layers import EqualizedLinear, normalize_second_moment
from wplus.models.network import MappingNetwork, check_label

W_AVG_BETA = 0.995  # decay of the running mean of w, published for every pass of training; here once per step


class MappingMLP(MappingNetwork):
    """z (and a label) -> w: normalised input, `num_layers` equalised layers at a hundredth of the learning rate.

    With z_dim = 0 it maps labels alone, as in the conditional discriminator. `num_ws` None returns w as (N, w_dim).
    """

    def __init__(
        self, *, z_dim: int, c_dim: int, w_dim: int, num_ws: int | None, num_layers: int, lr_mul: float = 0.01
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.num_ws, self.num_layers = z_dim, c_dim, num_ws, num_layers
        widths = [z_dim + (w_dim if c_dim else 0)] + [w_dim] * num_layers
        if c_dim:
            self.embed = EqualizedLinear(c_dim, w_dim)
        for i in range(num_layers):
            setattr(self, f"fc{i}", EqualizedLinear(widths[i], widths[i + 1], activate=True, lr_mul=lr_mul))
        if num_ws is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """z (N, z_dim), c (N, c_dim) one-hot -> ws (N, num_ws, w_dim).

        Truncation pulls the first `truncation_cutoff` layers (None: all) towards the mean: w_avg + psi (w - w_avg).
        """
        x = self._input(z, c)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        if self.num_ws is None:
            return x
        return self._truncate(x.unsqueeze(1).repeat(1, self.num_ws, 1), truncation_psi, truncation_cutoff)

    def _input(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        parts = []
        if self.z_dim:
            if z is None or z.shape[1:] != (self.z_dim,):
                raise UserError(f"z must be (N, {self.z_dim}), got {None if z is None else tuple(z.shape)}")
            parts.append(normalize_second_moment(z.to(torch.float32)))
        if (c := check_label(c, self.c_dim)) is not None:
            parts.append(normalize_second_moment(self.embed(c.to(torch.float32))))
        return torch.cat(parts, dim=1)

    def _truncate(self, ws: Tensor, psi: float, cutoff: int | None) -> Tensor:
        if psi == 1:
            return ws
        truncated = self.w_avg.lerp(ws[:, :cutoff], psi)
        return truncated if cutoff is None else torch.cat([truncated, ws[:, cutoff:]], dim=1)

    @torch.no_grad()
    def update_w_avg(self, batch_mean: Tensor) -> None:
        """Move w_avg towards the mean w of a training batch, (w_dim,)."""
        self.w_avg.lerp_(batch_mean.to(self.w_avg.dtype), 1 - W_AVG_BETA)
