"""Paths between latents, made into walks: rendered, timed, ready to be judged."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wplus.core.batching import in_batches
from wplus.interpolation.cost import measured
from wplus.interpolation.curve import Curve, Path, PathContext
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.render import render_batch, styles
from wplus.interpolation.walk import Metric, MetricTools, Trajectory, even_positions, features_of


def walk_between(points: Keyframes, scene: PathContext, *, path: Path, targets: Tensor | None = None) -> Trajectory:
    """The walk along `path` between two key points, its cost included: `scene.num_frames` frames, ends included.

    `targets` (2, C, H, W): the real images that the key points stand for.
    """
    device = scene.generator.mapping.w_avg.device
    with measured(device) as cost:
        curve = path(points, scene)
        images = _render(points, scene, curve, even_positions(scene.num_frames))
    (walk,) = _walks(points, scene, path=path, curve=curve, images=[images])
    return replace(walk, cost=cost, targets=targets)


def walks_along(points: Keyframes, scene: PathContext, *, path: Path, curve: Curve | None = None) -> list[Trajectory]:
    """One walk for each transition of a chain of key points; `curve` is what the path made of them, if it is known."""
    curve = path(points, scene) if curve is None else curve
    t = even_positions(scene.num_frames)
    images = [_render(points, scene, curve, t + start) for start in range(len(points) - 1)]
    return _walks(points, scene, path=path, curve=curve, images=images)


def measure_walks(
    walks: Sequence[Trajectory], metrics: Mapping[str, Metric], judges: MetricTools
) -> list[dict[str, float]]:
    """What all metrics say of each walk."""
    found = []
    for walk in walks:
        values: dict[str, float] = {}
        for metric in metrics.values():
            values |= metric(walk, judges)
        found.append(values)
    return found


def _walks(
    points: Keyframes, scene: PathContext, *, path: Path, curve: Curve, images: Sequence[Tensor]
) -> list[Trajectory]:
    t, last = even_positions(scene.num_frames), len(points) - 2

    @functools.cache
    def reversed_curve() -> tuple[Keyframes, Curve]:
        backwards = flipped(points)
        return backwards, path(backwards, scene)

    def at(t: Tensor, *, start: int) -> Tensor:
        return _render(points, scene, curve, t + start)

    def back(t: Tensor, *, start: int) -> Tensor:
        backwards, found = reversed_curve()
        return _render(backwards, scene, found, t + last - start)

    return [
        Trajectory(
            name=f"{points.names[start]} to {points.names[start + 1]}",
            t=t,
            images=pictures,
            features=features_of(scene.perceptual, pictures, scene.batch_size),
            at=functools.partial(at, start=start),
            back=functools.partial(back, start=start),
            ws=_styles(points, scene, curve, t + start),
        )
        for start, pictures in enumerate(images)
    ]


def flipped(points: Keyframes) -> Keyframes:
    """The same key points from the last to the first."""
    noise = None if points.noise is None else tuple(layer.flip(0) for layer in points.noise)
    labels = None if points.labels is None else points.labels.flip(0)
    deltas = None if points.deltas is None else points.deltas[::-1]
    turned = {"noise": noise, "labels": labels, "deltas": deltas}
    return replace(points, codes=points.codes.flip(0), names=points.names[::-1], **turned)


def _render(points: Keyframes, scene: PathContext, curve: Curve, t: Tensor) -> Tensor:
    # Path length sees the rounding of the kernels that smaller batches take.
    (images,) = in_batches(lambda t: [render_batch(scene.generator, points, curve, t)], t, scene.batch_size)
    return images


@torch.no_grad()
def _styles(points: Keyframes, scene: PathContext, curve: Curve, t: Tensor) -> Tensor:
    return styles(scene.generator, points, curve.codes(t), curve.clock(t))
