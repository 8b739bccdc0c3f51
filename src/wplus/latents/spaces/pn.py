"""P_N and P_N+: w in coordinates in which the prior is a standard normal distribution (Zhu et al. 2020).

p = LeakyReLU_5(w) inverts the last nonlinearity of the mapping network, and dividing its principal components by their
standard deviations whitens it (arXiv:2012.09036; `Whitened`). The squared length over w_dim, about 1 for samples of the
prior, is the loss term `prior`: its weight trades reconstruction for editability.
"""

import torch
from torch import Tensor

from wplus.latents.space import LatentSpace, whitened
from wplus.latents.w_stats import Whitened
from wplus.models.generator import GeneratorNetwork


class PN(LatentSpace):
    """pn (w_dim,)."""

    name = "pn"
    is_white = True

    def to_ws(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """w = LeakyReLU_0.2(p), the same in every layer."""
        return _prior(generator, codes).from_coordinates(codes)[:, None].expand(-1, generator.num_ws, -1)

    def from_ws(self, ws: Tensor, generator: GeneratorNetwork) -> Tensor:
        """The coordinates of w, which all layers share; exact up to rounding."""
        return _prior(generator, ws).coordinates(ws[:, 0])

    def prior_distance(self, codes: Tensor, generator: GeneratorNetwork) -> Tensor:
        """The mean square (N,)."""
        return codes.square().flatten(1).mean(dim=1)


class PNPlus(PN):
    """pn+ (num_ws, w_dim): the w of each layer in these coordinates."""

    name = "pn+"
    of_layers = True

    def to_ws(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """w = LeakyReLU_0.2(p), layer by layer."""
        return _prior(generator, codes).from_coordinates(codes)

    def from_ws(self, ws: Tensor, generator: GeneratorNetwork) -> Tensor:
        """The coordinates of every layer; exact up to rounding."""
        return _prior(generator, ws).coordinates(ws)


def _prior(generator: GeneratorNetwork, like: Tensor) -> Whitened:
    with torch.no_grad():
        return whitened(generator).to(like)
