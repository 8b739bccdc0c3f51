"""Paths between codes. A path is a function (a, b, t) -> codes, from `a` at t = 0 to `b` at t = 1, exact at both ends.

A new path is one function here (or anywhere) and one file in configs/path/.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wplus import geometry
from wplus.errors import UserError

Path = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(a (*shape), b (*shape), t (T,)) -> (T, *shape)."""


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The straight line from `a` to `b`."""
    return geometry.lerp(a[None], b[None], t)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The great circle from `a` to `b` about the origin, length interpolated linearly; over the last dimension.

    In z that is the natural path: the prior's mass lies on a sphere about the origin, and the mapping network sees
    directions only. In w and w+ the origin means nothing to the generator; there it is a curve like another (w+ turns
    each layer's code on its own). Parallel and antipodal codes: see `wplus.geometry.slerp`.
    """
    return geometry.slerp(a[None], b[None], t)


def along(keys: Tensor, t: Tensor, *, path: Path) -> Tensor:
    """Codes at positions t (T,) in [0, K-1] of the chain through keys (K, *shape): (T, *shape).

    Position k is key k, bit for bit; between k and k + 1 runs `path`.
    """
    segments = t.floor().clamp(0, len(keys) - 2).long()
    codes = keys.new_empty(len(t), *keys.shape[1:])
    for segment in segments.unique().tolist():
        here = segments == segment
        codes[here] = path(keys[segment], keys[segment + 1], t[here] - segment)
    return codes


def timeline(num_keys: int, num_frames: int, *, alpha: str = "b_at_one") -> Tensor:
    """Positions in [0, K-1] of the frames of a chain of K key points, float64, in the order in which they are shown.

    `num_frames` counts the frames of one transition with both its ends, so every key point is a frame and is shown
    once: (K-1) * (num_frames-1) + 1 frames in all. `alpha` names the convention: "b_at_one" runs from the first key
    (t = 0) to the last (t = 1); "a_at_one" is the other habit, code = alpha * a + (1 - alpha) * b with alpha growing
    from 0 to 1, so that the film starts at the last key and ends at the first.
    """
    if num_keys < 2 or num_frames < 2:
        what, count = ("key points", num_keys) if num_keys < 2 else ("frames for a transition", num_frames)
        raise UserError(f"An interpolation needs at least 2 {what}, got {count}.")
    if alpha not in ("b_at_one", "a_at_one"):
        raise UserError(f"alpha={alpha} is no convention; allowed are b_at_one and a_at_one.")
    steps = num_frames - 1
    frames = torch.arange((num_keys - 1) * steps + 1)
    # Whole part plus fraction, so that every key point is hit exactly whatever the number of frames.
    positions = (frames // steps).double() + (frames % steps).double() / steps
    return positions if alpha == "b_at_one" else positions.flip(0)
