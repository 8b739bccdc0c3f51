"""The distribution of w: samples, and coordinates that make it normal (P_N of Zhu et al. 2020, arXiv:2012.09036).

The mapping network ends in a leaky ReLU of slope 0.2. A leaky ReLU of slope 5 inverts it and gives a distribution close
to normal, which is then whitened by its principal components.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.core.random import rng
from wplus.errors import check_number
from wplus.latents.interpolation import precise
from wplus.latents.labels import labels_in_turn
from wplus.models.generator import GeneratorNetwork

_SLOPE, _INVERSE_SLOPE = 0.2, 5.0  # of the leaky ReLU at the end of the mapping network, and of its inverse
# Lower bound on variances, relative to their average. Smaller ones reflect the curvature of the surface that w lies on:
# without the bound, the mean w of the cats' generator would be 18 times as far away as a sample, because of 4 of 128
# directions.
_SMALLEST_VARIANCE = 0.01
_CHUNK = 1000  # samples mapped at once: the mapping is cheap but returns num_ws copies of w
NUM_SAMPLES = 20_000


def map_samples(generator: GeneratorNetwork, z: Tensor, labels: Tensor | None) -> Tensor:
    """z (N, z_dim) and labels (N, c_dim), (c_dim,) or None -> w (N, w_dim) on the generator's device.

    Without labels, a conditional generator gets those of its training data in turn (`labels_in_turn`).
    """
    device = generator.mapping.w_avg.device
    labels = labels_in_turn(generator, len(z)) if labels is None else labels
    chunks = z.to(device).split(_CHUNK)
    of_chunks = [None] * len(chunks) if labels is None else labels.expand(len(z), -1).to(device).split(_CHUNK)
    return torch.cat([generator.mapping(*chunk)[:, 0] for chunk in zip(chunks, of_chunks, strict=True)])


@torch.no_grad()
def sample_w(generator: GeneratorNetwork, num: int, *, seed: int) -> Tensor:
    """Samples of w (num, w_dim), float64 on the CPU; for a conditional generator they cycle through all classes."""
    check_number("num_samples", num, lowest=2, whole=True)
    z = torch.randn(num, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    return map_samples(generator, z, None).double().cpu()


@dataclass(frozen=True)
class Whitened:
    """Coordinates of w in which the prior has zero mean and identity covariance.

    Attributes
        mean   (w_dim,), the mean of leaky_relu(w, 5)
        basis  (w_dim, w_dim), its principal directions as columns, each divided by its standard deviation; variances
               below a hundredth of the average are raised to that
    """

    mean: Tensor
    basis: Tensor

    @staticmethod
    @torch.no_grad()
    def of(generator: GeneratorNetwork, *, num_samples: int = NUM_SAMPLES) -> Whitened:
        """Estimate from a fixed set of samples, which covers the classes of a conditional generator evenly."""
        samples = torch.randn(num_samples, generator.z_dim, generator=rng(123, "whitening"))
        return Whitened.from_samples(map_samples(generator, samples, None))

    @staticmethod
    def from_samples(w: Tensor) -> Whitened:
        """Estimate from w (N, w_dim), in float64 where the device supports it."""
        normal = precise(F.leaky_relu(w, _INVERSE_SLOPE))
        mean = normal.mean(dim=0)
        variances, directions = torch.linalg.eigh(torch.cov((normal - mean).T))
        deviations = variances.clamp_min(_SMALLEST_VARIANCE * variances.mean()).sqrt()
        return Whitened(mean.to(w.dtype), (directions / deviations).to(w.dtype))

    def to(self, like: Tensor) -> Whitened:
        """The same on the device and in the dtype of a tensor."""
        return Whitened(self.mean.to(like), self.basis.to(like))

    def coordinates(self, w: Tensor) -> Tensor:
        """w (..., w_dim) -> (..., w_dim), standard normal for samples of the prior."""
        return (F.leaky_relu(w, _INVERSE_SLOPE) - self.mean) @ self.basis

    def from_coordinates(self, coordinates: Tensor) -> Tensor:
        """The w (..., w_dim) with these coordinates (..., w_dim): the inverse of `coordinates`, up to rounding."""
        return F.leaky_relu(coordinates @ self._inverse + self.mean, _SLOPE)

    @cached_property
    def _inverse(self) -> Tensor:
        """Inverse of the basis: its columns are orthogonal, so each row is a column over its squared length."""
        return (self.basis / self.basis.square().sum(dim=0)).T

    def distance(self, ws: Tensor) -> Tensor:
        """w (N, w_dim), or ws (N, num_ws, w_dim), averaged over layers -> (N,).

        The squared Mahalanobis distance from the mean, divided by w_dim: about 1 for samples of the prior, and large
        far from where the generator was trained.
        """
        return self.coordinates(ws).square().flatten(1).mean(dim=1)
