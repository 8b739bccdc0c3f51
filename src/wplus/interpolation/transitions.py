"""Turn paths between keyframes into trajectories: rendered, timed, and ready to be measured."""

import functools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wplus.core.batching import in_batches
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import Curve, LatentPath, PathContext, even_positions
from wplus.interpolation.path_metrics.cost import measured
from wplus.interpolation.render import decoded, render_batch
from wplus.interpolation.trajectory import Trajectory, features_of
from wplus.latents.space import space_of


def trajectory_between(
    keyframes: Keyframes, context: PathContext, *, path: LatentPath, targets: Tensor | None = None
) -> Trajectory:
    """Trajectory along `path` between two keyframes, with its cost and `context.num_frames` frames, ends included.

    `targets` (2, C, H, W): the real images that the keyframes represent.
    """
    with measured(context.generator.mapping.w_avg.device) as cost:
        curve = path(keyframes, context)
        images = [_render(keyframes, context, curve, even_positions(context.num_frames))]
    (trajectory,) = trajectories_along(keyframes, context, path=path, curve=curve, images=images)
    return replace(trajectory, cost=cost, targets=targets)


@torch.no_grad()
def trajectories_along(
    keyframes: Keyframes, context: PathContext, *, path: LatentPath, curve: Curve, images: Sequence[Tensor] = ()
) -> list[Trajectory]:
    """One trajectory per transition of the curve `path` made from keyframes; `images` if already rendered."""
    last = len(keyframes) - 2

    @functools.cache
    def reversed_curve() -> tuple[Keyframes, Curve]:
        backwards = keyframes.reversed()
        return backwards, path(backwards, context)

    def back(t: Tensor, start: int) -> Tensor:
        backwards, found = reversed_curve()
        return _render(backwards, context, found, t + last - start)

    def at(t: Tensor, start: int) -> Tensor:
        return _render(keyframes, context, curve, t + start)

    def trajectory(start: int) -> Trajectory:
        t = even_positions(context.num_frames)
        frames = images[start] if images else at(t, start)
        features = features_of(context.perceptual, frames, context.batch_size)
        codes, times = curve.codes(t + start), curve.time_map(t + start)
        drawn = decoded(context.generator, keyframes, codes, times)
        space = space_of(keyframes.space, context.generator)
        return Trajectory(
            name=f"{keyframes.names[start]} to {keyframes.names[start + 1]}", t=t, images=frames, features=features,
            at=functools.partial(at, start=start), back=functools.partial(back, start=start),
            ws=drawn if isinstance(drawn, Tensor) else None,
            prior=None if isinstance(drawn, Tensor) else space.prior_distance(codes, context.generator),
        )  # fmt: skip

    return [trajectory(start) for start in range(len(keyframes) - 1)]


def _render(keyframes: Keyframes, context: PathContext, curve: Curve, t: Tensor) -> Tensor:
    # Path lengths are sensitive to the rounding of the kernels used for smaller batches.
    (images,) = in_batches(lambda t: [render_batch(context.generator, keyframes, curve, t)], t, context.batch_size)
    return images
