"""Trajectories, i.e. rendered paths between two keyframes, and the tools to measure them.

A path metric is a function `metric(trajectory, tools)` that yields pairs of a `PathNumber` and its value; the built-in
ones are in `path_metrics/`. To add one, write one function there (or anywhere) and one file in configs/path_metrics/.
A metric omits numbers it cannot compute (for lack of a discriminator, latents or real images).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from wplus.core.batching import in_batches
from wplus.core.metric_result import MetricInfo
from wplus.interpolation.path import PathContext, even_positions, middle_of
from wplus.latents import interpolation
from wplus.latents.w_stats import Whitened
from wplus.losses.image_pair import ImageDistance

if TYPE_CHECKING:
    from wplus.interpolation.path_metrics.cost import Cost
    from wplus.interpolation.path_metrics.discriminator_score import DiscriminatorScore

At = Callable[[Tensor], Tensor]  # positions (N,) float64 in [0, 1] -> images (N, C, H, W)


@dataclass(frozen=True)
class Trajectory:
    """A path from one image (t = 0) to another (t = 1), rendered at evenly spaced positions, both ends included."""

    name: str  # of the pair; seeds the metrics' random draws, so that they are the same for every method
    t: Tensor  # (T,) float64, from 0 to 1
    images: Tensor  # (T, C, H, W) float, about [-1, 1]
    features: list[Tensor]  # the perceptual distance's features of the images, each (T, ...)
    at: At  # the same path at any position, rendered like `images`
    back: At | None = None  # the same method's path from the second image (its 0) to the first (its 1)
    ws: Tensor | None = None  # (T, num_ws, w_dim); None without a generator, and in spaces without ws
    prior: Tensor | None = None  # (T,) distance from the prior in spaces without ws
    targets: Tensor | None = None  # (2, C, H, W), the real images that the ends represent; None if there are none
    cost: Cost | None = None  # cost of computing and rendering the path
    along: dict[str, Tensor] = field(default_factory=dict)  # name -> (T,): curves recorded by metrics for plotting

    def rows(self, start: int, stop: int | None) -> list[Tensor]:
        """Features of frames start, ..., stop - 1; those of a single frame broadcast as one side of a distance."""
        return [maps[start:stop] for maps in self.features]

    @property
    def middle(self) -> Tensor:
        """Indices of the frames halfway along the path: one, or two if T is even."""
        return middle_of(self.t)


@dataclass(frozen=True)
class MetricTools:
    """Tools used by the metrics; numbers that need a tool that is None are omitted."""

    perceptual: ImageDistance  # of the LPIPS family: a squared length of feature differences
    identity: ImageDistance | None = None  # 1 - cosine of descriptors, see `wplus.losses.identity`
    discriminator: DiscriminatorScore | None = None
    whitened: Whitened | None = None  # the prior of the generator's w
    batch_size: int = 64  # images per batch through a net

    @torch.no_grad()
    def distances(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Perceptual distances between pairs of images from their features: (N,) float64 on the CPU."""
        return self.perceptual.distance(a, b).double().cpu()

    def features(self, images: Tensor) -> list[Tensor]:
        """The perceptual distance's features of images (N, C, H, W)."""
        return features_of(self.perceptual, images, self.batch_size)

    def chord(self, trajectory: Trajectory) -> float:
        """Perceptual distance between the two ends."""
        return float(self.distances(trajectory.rows(0, 1), trajectory.rows(-1, None)))


@torch.no_grad()
def features_of(distance: ImageDistance, images: Tensor, batch_size: int) -> list[Tensor]:
    """A distance's features of images (N, C, H, W), batch by batch: tensors (N, ...)."""
    return in_batches(distance.features, images, batch_size)


@dataclass(frozen=True, kw_only=True)
class PathNumber(MetricInfo):
    """Definition of a number yielded by a path metric, and how tables show it. Declared once, next to its metric."""

    name: str
    format: str = ".3g"
    shown: Literal["short", "table", "file"] = "table"
    """In every table ("short"), in long ones, whose columns are also tested against a baseline, or only in files."""
    by_net: bool = True  # whether it depends on a pretrained net
    trimmed: bool = False  # whether means over pairs exclude values beyond the 1st and 99th percentile
    worst: bool = False  # whether the largest value over all pairs is also reported, as NAME_max
    interval: str = "95 %, percentile bootstrap over pairs"  # kind of interval in a comparison
    label: str = ""  # the name without that of a net, for titles of pictures
    metric: str = field(default="", compare=False)  # name in the config of the path metric that yielded it

    def by(self, net: str) -> PathNumber:
        """Return a copy with the net's name appended, so that a stand-in's score never has the plain name."""
        return replace(self, name=f"{self.name}_{net}", label=self.name)


Scores = Iterator[tuple[PathNumber, float]]
PathMetric = Callable[[Trajectory, MetricTools], Scores]


def measure(trajectory: Trajectory, metrics: Mapping[str, PathMetric], tools: MetricTools) -> dict[PathNumber, float]:
    """Apply all metrics to one trajectory."""
    each = ((name, score) for name, metric in metrics.items() for score in metric(trajectory, tools))
    return {replace(number, metric=name): value for name, (number, value) in each}


def cross_dissolve(name: str, ends: Tensor, context: PathContext) -> Trajectory:
    """Generator-free baseline: blend the ends (2, C, H, W) pixel by pixel, (1 - t) a + t b.

    Its steps are almost perfectly even but its middle is a double exposure, which is why no single number suffices.
    """
    at, t = functools.partial(interpolation.lerp, ends[:1], ends[1:]), even_positions(context.num_frames)
    images = at(t)
    features = features_of(context.perceptual, images, context.batch_size)
    return Trajectory(name, t, images, features, at, back=lambda t: at(1 - t), targets=ends)
