"""The distribution of w made normal, and how far from it a code lies (P_N of Zhu et al. 2020, arXiv:2012.09036).

The mapping network ends in a leaky ReLU of slope 0.2; one of slope 5 takes it back, and what comes out is close to a
normal distribution, which its principal components make white.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.inversion.mapping import map_samples
from wplus.inversion.seeds import rng

_INVERSE_SLOPE = 5.0  # of the leaky ReLU of 0.2 at the end of the mapping network
# Share of the average. What varies less is no distribution but a bend of the surface that w lies on: measured exactly,
# the mean w of the cats' generator would be 18 times as far away as a sample, because of 4 of 128 directions.
_SMALLEST_VARIANCE = 0.01
NUM_SAMPLES = 20_000


@dataclass(frozen=True)
class Whitened:
    """Coordinates of w in which the prior has the mean 0 and the covariance 1.

    Attributes
        mean   (w_dim,) of leaky_relu(w, 5)
        basis  (w_dim, w_dim), its principal directions as columns, each divided by its standard deviation, or by that
               of a hundredth of the average variance where it has less
    """

    mean: Tensor
    basis: Tensor

    @staticmethod
    @torch.no_grad()
    def of(generator: Any, *, num_samples: int = NUM_SAMPLES) -> Whitened:
        """Of samples that are always the same; the classes of a conditional generator take part alike."""
        samples = torch.randn(num_samples, generator.z_dim, generator=rng(123, "whitening"))
        w = map_samples(generator, samples, None)
        return Whitened.from_samples(w)

    @staticmethod
    def from_samples(w: Tensor) -> Whitened:
        """Of w (N, w_dim), in float64 where the device has it."""
        precise = F.leaky_relu(w, _INVERSE_SLOPE).to(torch.float32 if w.device.type == "mps" else torch.float64)
        mean = precise.mean(dim=0)
        variances, directions = torch.linalg.eigh(torch.cov((precise - mean).T))
        deviations = variances.clamp_min(_SMALLEST_VARIANCE * variances.mean()).sqrt()
        return Whitened(mean.to(w.dtype), (directions / deviations).to(w.dtype))

    def coordinates(self, w: Tensor) -> Tensor:
        """w (..., w_dim) -> (..., w_dim), standard normal for samples of the prior."""
        return (F.leaky_relu(w, _INVERSE_SLOPE) - self.mean) @ self.basis

    def distance(self, ws: Tensor) -> Tensor:
        """w (N, w_dim), or ws (N, num_ws, w_dim), whose layers are averaged -> (N,).

        The squared Mahalanobis distance from the mean, divided by w_dim: about 1 for samples of the prior, and large
        where the generator has learned nothing.
        """
        return self.coordinates(ws).square().flatten(1).mean(dim=1)
