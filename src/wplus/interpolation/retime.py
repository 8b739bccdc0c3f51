"""Re-time paths: `lerp+arc_length`, for example, is the straight line traversed such that frames change evenly.

A retiming is a function `retiming(keyframes, context, *, path) -> Curve`. To add one, write one function here (or
anywhere) and one file in configs/retime/.
"""

import functools
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from wplus.core.batching import MIN_SHOWN
from wplus.errors import UserError, check_number
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import Curve, LatentPath, PathContext, even_positions, piecewise, transition_of
from wplus.interpolation.path_metrics.shape import step_cv
from wplus.interpolation.render import NeighbourDistances, render

Retiming = Callable[..., Curve]


def retimed(paths: Mapping[str, LatentPath], retime: Mapping[str, Retiming | None] | None) -> dict[str, LatentPath]:
    """Apply each retiming to each path, named PATH+RETIMING; None keeps the path's own pace and name."""
    found: dict[str, LatentPath] = {}
    for path_name, path in paths.items():
        for name, retiming in (retime or {"none": None}).items():
            key = path_name if retiming is None else f"{path_name}+{name}"
            found[key] = path if retiming is None else functools.partial(retiming, path=path)
    return found


def arc_length(
    keyframes: Keyframes,
    context: PathContext,
    *,
    path: LatentPath,
    aim: float = 0.05,  # target coefficient of variation of the steps
    limit: float = 0.10,  # warn above
    max_rounds: int = 20,  # of rendering the frames and moving them; 2 to 4 are usual
) -> Curve:
    """Re-time `path` between its keyframes so that all steps between neighbouring frames look equally large.

    Renders the frames of the video, cumulates the roots of their perceptual distances (lengths in feature space), and
    moves the frames to equal shares of the total. As lengths are only known at frames, this is repeated until the
    coefficient of variation of the distances (`step_cv`) of each transition is at most `aim`. Keyframes stay in place;
    labels and noise are re-timed, too (`Curve.time_map`).

    A UserWarning names the transitions above `limit` after `max_rounds`: a path that jumps cannot be made even. The
    result is even for videos of `context.num_frames` frames, and nearly so for others.
    """
    if not 0 < aim <= limit:
        raise UserError(f"aim must be above 0 and at most limit, got aim={aim} with limit={limit}.")
    check_number("max_rounds", max_rounds, lowest=1, whole=True)
    curve = path(keyframes, context)
    times, cv = even_times(keyframes, context, curve, aim=aim, max_rounds=max_rounds)
    for transition in (cv > limit).nonzero()[:, 0].tolist():
        first, second = keyframes.names[transition : transition + 2]
        warnings.warn(
            f"The steps from '{first}' to '{second}' could not be made even in {context.num_frames} frames: their "
            f"coefficient of variation is {float(cv[transition]):.2f}, above {limit:g}; more frames may help.",
            stacklevel=2,
        )

    def time_map(t: Tensor) -> Tensor:
        return transition_of(t, len(keyframes)) + piecewise(times, t)

    return Curve(lambda t: curve.codes(time_map(t)), time_map=lambda t: curve.time_map(time_map(t)))


def even_times(
    keyframes: Keyframes, context: PathContext, curve: Curve, *, aim: float, max_rounds: int
) -> tuple[Tensor, Tensor]:
    """Frame times (K-1, num_frames) of each transition, 0 to 1, float64, and the resulting step_cv (K-1,)."""
    num = len(keyframes) - 1
    times = even_positions(context.num_frames).repeat(num, 1)
    best, best_cv = times.clone(), torch.full((num,), torch.inf, dtype=torch.float64)
    for _ in context.progress(range(max_rounds), "Evening the steps (rounds at most)"):
        todo = (best_cv > aim).nonzero()[:, 0]
        steps = _steps(keyframes, context, curve, times[todo] + todo[:, None])
        cv = torch.tensor([step_cv(row) for row in steps], dtype=torch.float64)
        better = cv < best_cv[todo]
        best[todo[better]], best_cv[todo[better]] = times[todo[better]], cv[better]
        if bool((best_cv <= aim).all()):
            break
        times[todo] = _moved(times[todo], steps)
    return best, best_cv


def _steps(keyframes: Keyframes, context: PathContext, curve: Curve, positions: Tensor) -> Tensor:
    """Perceptual distances (R, T-1), float64, between neighbours in each row of positions (R, T). The batch size is
    fixed, because a search that starts from an even path amplifies the rounding differences of other kernels."""
    distances = NeighbourDistances(context.perceptual, steps_per_transition=positions.shape[1])
    for images in render(context.generator, keyframes, curve, positions.flatten(), MIN_SHOWN):
        distances.add(images)
    # There is one more step between the end of a row and the start of the next, which is not part of the video.
    flat = torch.cat([distances.flat, distances.flat.new_zeros(1)])
    return flat.view_as(positions)[:, :-1]


def _moved(times: Tensor, steps: Tensor) -> Tensor:
    """Move times (R, T) to equal shares of the length of steps (R, T-1); rows without motion are unchanged."""
    lengths = steps.clamp_min(0).sqrt()
    cumulated = torch.nn.functional.pad(lengths.cumsum(dim=1), (1, 0))
    total = cumulated[:, -1:]
    wanted = even_positions(times.shape[1]) * total
    after = torch.searchsorted(cumulated, wanted).clamp(1, times.shape[1] - 1)
    left, right = cumulated.gather(1, after - 1), cumulated.gather(1, after)
    share = ((wanted - left) / (right - left).clamp_min(1e-300)).clamp(0, 1)
    moved = torch.lerp(times.gather(1, after - 1), times.gather(1, after), share)
    moved[:, 0], moved[:, -1] = 0, 1
    return torch.where(total > 0, moved, times)
