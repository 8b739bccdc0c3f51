"""One path between two keyframes, made into frames, and what is needed to measure it.

A path metric is a function `metric(trajectory, tools)` that yields pairs of a `PathNumber` and its value; those of the
project are in `path_metrics/`. A new one is one function there (or anywhere) and one file in configs/path_metrics/.
What it cannot say of a trajectory (there is no discriminator, no latent, no real image) it leaves out.
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
    """A way from one image (t = 0) to another (t = 1), rendered at evenly spaced positions, both ends included."""

    name: str  # of the pair: what a metric draws depends on it, so that every method meets the same draws
    t: Tensor  # (T,) float64, from 0 to 1
    images: Tensor  # (T, C, H, W) float, about [-1, 1]
    features: list[Tensor]  # the perceptual distance's features of the images, each (T, ...)
    at: At  # the same way at any position, made as `images` were
    back: At | None = None  # the way that the same method makes from the second image (its 0) to the first (its 1)
    ws: Tensor | None = None  # (T, num_ws, w_dim); None where no generator made the images, and in spaces without ws
    prior: Tensor | None = None  # (T,) distance from the prior in spaces without ws
    targets: Tensor | None = None  # (2, C, H, W), the real images that the ends stand for; None where there are none
    cost: Cost | None = None  # what making the path and rendering it took
    along: dict[str, Tensor] = field(default_factory=dict)  # name -> (T,): curves that metrics leave to be plotted

    def rows(self, start: int, stop: int | None) -> list[Tensor]:
        """Features of frames start, ..., stop - 1; of one alone, they broadcast as a side of a distance."""
        return [maps[start:stop] for maps in self.features]

    @property
    def middle(self) -> Tensor:
        """Numbers of the frames in the middle of the way: one, or two where T is even."""
        return middle_of(self.t)


@dataclass(frozen=True)
class MetricTools:
    """The instruments of the metrics; where one is None, what needs it is left out."""

    perceptual: ImageDistance  # A distance of the LPIPS family: the squared length of a difference of features
    identity: ImageDistance | None = None  # 1 - cosine of descriptors, see `wplus.losses.identity`
    discriminator: DiscriminatorScore | None = None
    whitened: Whitened | None = None  # the prior of the generator's w
    batch_size: int = 64  # images that pass through a net at once

    @torch.no_grad()
    def distances(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Perceptual distances of pairs of images from their features: (N,) float64 on the CPU."""
        return self.perceptual.distance(a, b).double().cpu()

    def features(self, images: Tensor) -> list[Tensor]:
        """The perceptual distance's features of images (N, C, H, W)."""
        return features_of(self.perceptual, images, self.batch_size)

    def chord(self, trajectory: Trajectory) -> float:
        """Perceptual distance of the two ends."""
        return float(self.distances(trajectory.rows(0, 1), trajectory.rows(-1, None)))


@torch.no_grad()
def features_of(distance: ImageDistance, images: Tensor, batch_size: int) -> list[Tensor]:
    """A distance's features of images (N, C, H, W), batch by batch: tensors (N, ...)."""
    return in_batches(distance.features, images, batch_size)


@dataclass(frozen=True, kw_only=True)
class PathNumber(MetricInfo):
    """A number that a path metric gives: what it is, and how tables show it. Declared once, beside its metric."""

    name: str
    format: str = ".3g"
    shown: Literal["short", "table", "file"] = "table"
    """In every table; in the long ones, whose columns are also tested against a baseline; in CSV and JSON alone."""
    by_net: bool = True  # whether a pretrained net has a part in it
    trimmed: bool = False  # whether a mean over pairs leaves out what is beyond their 1st and 99th percentile
    worst: bool = False  # whether the largest value of all pairs is told too, as NAME_max
    interval: str = "95 %, percentile bootstrap over pairs"  # the kind of interval that a comparison gives it
    label: str = ""  # the name without that of a net, for titles of pictures
    metric: str = field(default="", compare=False)  # the path metric that gave it, by its name in the config

    def by(self, net: str) -> PathNumber:
        """The same as a net sees it, with the net's name appended: a stand-in's score never goes under a plain name."""
        return replace(self, name=f"{self.name}_{net}", label=self.name)


Scores = Iterator[tuple[PathNumber, float]]
PathMetric = Callable[[Trajectory, MetricTools], Scores]


def measure(trajectory: Trajectory, metrics: Mapping[str, PathMetric], tools: MetricTools) -> dict[PathNumber, float]:
    """What all metrics say of one trajectory."""
    each = ((name, score) for name, metric in metrics.items() for score in metric(trajectory, tools))
    return {replace(number, metric=name): value for name, (number, value) in each}


def cross_dissolve(name: str, ends: Tensor, context: PathContext) -> Trajectory:
    """The baseline that needs no generator: ends (2, C, H, W) mixed pixel by pixel, (1 - t) a + t b.

    Its steps are almost perfectly even and its middle is a double exposure, which is why no single number suffices.
    """
    at, t = functools.partial(interpolation.lerp, ends[:1], ends[1:]), even_positions(context.num_frames)
    images = at(t)
    features = features_of(context.perceptual, images, context.batch_size)
    return Trajectory(name, t, images, features, at, back=lambda t: at(1 - t), targets=ends)
