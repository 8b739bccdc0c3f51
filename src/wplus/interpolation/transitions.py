"""Paths between keyframes, made into trajectories: rendered, timed, ready to be measured."""

import functools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wplus.core.batching import in_batches
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import Curve, LatentPath, PathContext, even_positions
from wplus.interpolation.path_metrics.cost import measured
from wplus.interpolation.render import render_batch, styles
from wplus.interpolation.trajectory import Trajectory, features_of


def trajectory_between(
    keyframes: Keyframes, context: PathContext, *, path: LatentPath, targets: Tensor | None = None
) -> Trajectory:
    """The way along `path` between two keyframes, its cost included: `context.num_frames` frames, ends included.

    `targets` (2, C, H, W): the real images that the keyframes stand for.
    """
    device = context.generator.mapping.w_avg.device
    with measured(device) as cost:
        curve = path(keyframes, context)
        images = _render(keyframes, context, curve, even_positions(context.num_frames))
    (trajectory,) = _trajectories(keyframes, context, path=path, curve=curve, images=[images])
    return replace(trajectory, cost=cost, targets=targets)


def trajectories_along(
    keyframes: Keyframes, context: PathContext, *, path: LatentPath, curve: Curve | None = None
) -> list[Trajectory]:
    """One for each transition of a chain of keyframes; `curve` is what the path made of them, if it is known."""
    curve, t = path(keyframes, context) if curve is None else curve, even_positions(context.num_frames)
    images = [_render(keyframes, context, curve, t + start) for start in range(len(keyframes) - 1)]
    return _trajectories(keyframes, context, path=path, curve=curve, images=images)


def _trajectories(
    keyframes: Keyframes, context: PathContext, *, path: LatentPath, curve: Curve, images: Sequence[Tensor]
) -> list[Trajectory]:
    t, last = even_positions(context.num_frames), len(keyframes) - 2

    @functools.cache
    def reversed_curve() -> tuple[Keyframes, Curve]:
        backwards = keyframes.reversed()
        return backwards, path(backwards, context)

    def at(t: Tensor, *, start: int) -> Tensor:
        return _render(keyframes, context, curve, t + start)

    def back(t: Tensor, *, start: int) -> Tensor:
        backwards, found = reversed_curve()
        return _render(backwards, context, found, t + last - start)

    return [
        Trajectory(
            name=f"{keyframes.names[start]} to {keyframes.names[start + 1]}",
            t=t,
            images=frames,
            features=features_of(context.perceptual, frames, context.batch_size),
            at=functools.partial(at, start=start),
            back=functools.partial(back, start=start),
            ws=_styles(keyframes, context, curve, t + start),
        )
        for start, frames in enumerate(images)
    ]


def _render(keyframes: Keyframes, context: PathContext, curve: Curve, t: Tensor) -> Tensor:
    # Path length sees the rounding of the kernels that smaller batches take.
    (images,) = in_batches(lambda t: [render_batch(context.generator, keyframes, curve, t)], t, context.batch_size)
    return images


@torch.no_grad()
def _styles(keyframes: Keyframes, context: PathContext, curve: Curve, t: Tensor) -> Tensor:
    return styles(context.generator, keyframes, curve.codes(t), curve.time_map(t))
