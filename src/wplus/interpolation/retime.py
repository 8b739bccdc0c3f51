"""Any path at the pace at which its pictures change evenly."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.interpolation.curve import Curve, Path, PathContext, segments
from wplus.interpolation.evenness import NeighbourDistances, evenness
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path_metrics.ppl import AT_ONCE
from wplus.interpolation.render import render


def even(
    points: Keyframes, scene: PathContext, *, path: Path, aim: float = 0.05, limit: float = 0.10, max_rounds: int = 20
) -> Curve:
    """`path`, re-timed between its key points so that every step between neighbouring frames looks equally large.

    A curve keeps its way and gets another clock: that of its length in the feature space of the perceptual distance,
    whose numbers are squares of lengths. The frames of the film are rendered, the roots of their distances summed up,
    and the frames moved to where equal shares of the sum are; again, because the length of a step is known only where
    frames are, until the coefficient of variation of the distances (`step_cv`) of each transition is `aim` or less.
    Key points keep their places; labels and noise move along (`Curve.clock`).

    A UserWarning names the transitions that are above `limit` after `max_rounds` of that: a path that jumps has no
    even pace. It holds for films of `scene.num_frames` frames, and nearly for others.
    """
    if not 0 < aim <= limit:
        raise UserError(f"aim={aim} with limit={limit} is not allowed: it needs 0 < aim <= limit.")
    if max_rounds < 1:
        raise UserError(f"max_rounds={max_rounds} is not allowed: it must be 1 or more.")
    curve = path(points, scene)
    times, step_cv = even_times(points, scene, curve, aim=aim, max_rounds=max_rounds)
    _warn(points, step_cv, limit, scene.num_frames)

    def clock(t: Tensor) -> Tensor:
        return interpolated(times, t)

    return Curve(lambda t: curve.codes(clock(t)), clock=lambda t: curve.clock(clock(t)))


def even_times(
    points: Keyframes, scene: PathContext, curve: Curve, *, aim: float, max_rounds: int
) -> tuple[Tensor, Tensor]:
    """When the frames of each transition are (K-1, num_frames), 0 to 1, float64; and the step_cv (K-1,) of that."""
    num = len(points) - 1
    times = torch.linspace(0, 1, scene.num_frames, dtype=torch.float64).repeat(num, 1)
    best, best_cv = times.clone(), torch.full((num,), torch.inf, dtype=torch.float64)
    for _ in scene.progress(range(max_rounds), "Evening the steps (rounds at most)"):
        todo = (best_cv > aim).nonzero()[:, 0]
        steps = _steps(points, scene, curve, times[todo] + todo[:, None])
        cv = torch.tensor([evenness(row, 0)["step_cv"] for row in steps], dtype=torch.float64)
        better = cv < best_cv[todo]
        best[todo[better]], best_cv[todo[better]] = times[todo[better]], cv[better]
        if bool((best_cv <= aim).all()):
            break
        times[todo] = _moved(times[todo], steps)
    return best, best_cv


def _steps(points: Keyframes, scene: PathContext, curve: Curve, positions: Tensor) -> Tensor:
    """Perceptual distances (R, T-1), float64, between neighbours in each row of positions (R, T).

    In batches of one size, whatever the scene's: a search that starts from an even path (`geodesic`) makes much of how
    the kernels for another size round.
    """
    distances = NeighbourDistances(scene.perceptual, steps_per_transition=positions.shape[1])
    for images in render(scene.generator, points, curve, positions.flatten(), AT_ONCE):
        distances.add(images)
    # One step more between a row and the next, which is no step of the film.
    flat = torch.cat([distances.flat, distances.flat.new_zeros(1)])
    return flat.view_as(positions)[:, :-1]


def _moved(times: Tensor, steps: Tensor) -> Tensor:
    """Times (R, T) moved to equal shares of the length that steps (R, T-1) have; rows that stand still are left."""
    lengths = steps.clamp_min(0).sqrt()
    cumulated = torch.nn.functional.pad(lengths.cumsum(dim=1), (1, 0))
    total = cumulated[:, -1:]
    wanted = torch.linspace(0, 1, times.shape[1], dtype=torch.float64) * total
    after = torch.searchsorted(cumulated, wanted).clamp(1, times.shape[1] - 1)
    left, right = cumulated.gather(1, after - 1), cumulated.gather(1, after)
    share = ((wanted - left) / (right - left).clamp_min(1e-300)).clamp(0, 1)
    moved = torch.lerp(times.gather(1, after - 1), times.gather(1, after), share)
    moved[:, 0], moved[:, -1] = 0, 1
    return torch.where(total > 0, moved, times)


def interpolated(times: Tensor, t: Tensor) -> Tensor:
    """Positions t (T,) in [0, K-1] through times (K-1, F), each row those of F even positions in its transition."""
    row = segments(t, len(times) + 1)
    place = (t - row) * (times.shape[1] - 1)
    left = place.floor().long().clamp(0, times.shape[1] - 2)
    return row + torch.lerp(times[row, left], times[row, left + 1], place - left)


def _warn(points: Keyframes, step_cv: Tensor, limit: float, num_frames: int) -> None:
    for transition in (step_cv > limit).nonzero()[:, 0].tolist():
        first, second = points.names[transition : transition + 2]
        warnings.warn(
            f"The steps from '{first}' to '{second}' could not be made even in {num_frames} frames: their coefficient "
            f"of variation is {float(step_cv[transition]):.2f}, above {limit:g}; more frames may help.",
            stacklevel=3,
        )
