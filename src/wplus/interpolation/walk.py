"""One path between two key points, made into frames, and what is needed to judge it.

A judgement is a function `metric(walk, judges) -> dict[str, float]`; those of the project are in `quality/`. A new one
is one function there (or anywhere) and one file in configs/path_metrics/. What it cannot say of a walk (there is no
discriminator, no latent code, no real image) it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wplus.core.batching import in_batches
from wplus.interpolation.cost import Cost
from wplus.latents import interpolation as geometry
from wplus.losses.image_pair import ImageDistance

At = Callable[[Tensor], Tensor]
"""Positions (N,) float64 in [0, 1] -> images (N, C, H, W)."""


@dataclass(frozen=True)
class Trajectory:
    """A way from one picture (t = 0) to another (t = 1), rendered at evenly spaced positions, both ends included."""

    name: str
    """Of the pair: what a metric draws depends on it, so that every method meets the same draws."""
    t: Tensor
    """(T,) float64, from 0 to 1."""
    images: Tensor
    """(T, C, H, W) float, about [-1, 1]."""
    features: list[Tensor]
    """The perceptual distance's features of the images, each (T, ...)."""
    at: At
    """The same way at any position, made as `images` were."""
    back: At | None = None
    """The way that the same method makes from the second picture (its 0) to the first (its 1)."""
    ws: Tensor | None = None
    """(T, num_ws, w_dim) styles; None where no generator made the pictures."""
    targets: Tensor | None = None
    """(2, C, H, W), the real images that the ends stand for; None where there are none."""
    cost: Cost | None = None
    """What making the path and rendering it took."""
    along: dict[str, Tensor] = field(default_factory=dict)
    """Name -> (T,): curves over t that metrics leave here to be plotted."""

    def rows(self, start: int, stop: int | None) -> list[Tensor]:
        """Features of frames start, ..., stop - 1."""
        return [maps[start:stop] for maps in self.features]

    @property
    def middle(self) -> Tensor:
        """Numbers of the frames in the middle of the way: one, or two where T is even."""
        away = (self.t - 0.5).abs()
        return (away <= away.min() + 1e-9).nonzero()[:, 0]


@dataclass(frozen=True)
class MetricTools:
    """The instruments of the metrics; where one is None, what needs it is left out."""

    perceptual: ImageDistance
    """A distance of the LPIPS family: the squared length of a difference of features."""
    identity: ImageDistance | None = None
    """1 - cosine of descriptors, see `wplus.losses.identity`."""
    critic: Any = None
    """`wplus.interpolation.path_metrics.critic.Critic`."""
    whitened: Any = None
    """`wplus.latents.w_stats.Whitened` of the generator."""
    batch_size: int = 64
    """Images that pass through a net at once."""

    @torch.no_grad()
    def distances(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Perceptual distances of pairs of images from their features: (N,) float64 on the CPU."""
        return self.perceptual.distance(a, b).double().cpu()

    def features(self, images: Tensor) -> list[Tensor]:
        """The perceptual distance's features of images (N, C, H, W)."""
        return features_of(self.perceptual, images, self.batch_size)


Metric = Callable[[Trajectory, MetricTools], dict[str, float]]


@torch.no_grad()
def features_of(distance: ImageDistance, images: Tensor, batch_size: int) -> list[Tensor]:
    """A distance's features of images (N, C, H, W), batch by batch: tensors (N, ...)."""
    return in_batches(distance.features, images, batch_size)


def repeated(features: list[Tensor], row: int) -> list[Tensor]:
    """The features of one image, as a side of a distance that broadcasts: tensors (1, ...)."""
    return [maps[row : row + 1] for maps in features]


def even_positions(num_frames: int) -> Tensor:
    """(T,) float64 from 0 to 1, both exact."""
    return torch.linspace(0, 1, num_frames, dtype=torch.float64)


def cross_dissolve(
    name: str, ends: Tensor, *, perceptual: ImageDistance, num_frames: int, batch_size: int
) -> Trajectory:
    """The baseline that needs no generator: ends (2, C, H, W) mixed pixel by pixel, (1 - t) a + t b.

    Its steps are almost perfectly even and its middle is a double exposure, which is why no single number suffices.
    """

    def at(t: Tensor) -> Tensor:
        return geometry.lerp(ends[:1], ends[1:], t)

    t = even_positions(num_frames)
    images = at(t)
    return Trajectory(
        name=name,
        t=t,
        images=images,
        features=features_of(perceptual, images, batch_size),
        at=at,
        back=lambda t: at(1 - t),
        targets=ends,
    )
