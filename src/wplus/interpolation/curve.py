"""What a path makes of key points, a curve; what it may look at, a scene; and the positions that a film shows.

A path is a function `path(points, scene) -> Curve`. A position t counts key points: 0 is the first, 1 the second, and
K - 1 the last of K; 0.5 is half way, by the path's own clock, between the first two.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wplus.core.progress import track
from wplus.errors import UserError
from wplus.interpolation.evenness import Perceptual
from wplus.interpolation.keyframes import Keyframes
from wplus.latents.latent import SPACES, Space
from wplus.latents.w_stats import Whitened


def identity(t: Tensor) -> Tensor:
    """Positions as they are."""
    return t


@dataclass(frozen=True)
class Curve:
    """Where a path is at every position; exact at whole positions, which are the key points."""

    codes: Callable[[Tensor], Tensor]
    """Positions t (T,) float64 in [0, K-1] -> codes (T, *shape), on the key points' device."""
    clock: Callable[[Tensor], Tensor] = identity
    """t (T,) -> where labels and noise are (T,): re-timing a path moves them along with its codes."""


@dataclass(frozen=True)
class PathContext:
    """What a path may look at: the generator, and how different pictures look."""

    generator: Any
    perceptual: Perceptual
    batch_size: int = 16
    num_frames: int = 60
    """Of one transition, both its ends included: the frames whose steps a re-timed path makes even."""
    progress: Callable[..., Iterator[Any]] = track
    """Shows how far a path's search is, as `wplus.core.progress.track` does."""

    @functools.cached_property
    def whitened(self) -> Whitened:
        """The generator's prior, measured at the first use."""
        return Whitened.of(self.generator)


Path = Callable[[Keyframes, PathContext], Curve]


# Where a path makes sense


def in_spaces(*spaces: Space, otherwise: str) -> Callable[[Callable[..., Curve]], Callable[..., Curve]]:
    """Make a path refuse all but these spaces, with a UserError that ends in `otherwise`: what to choose instead."""

    def decorate(path: Callable[..., Curve]) -> Callable[..., Curve]:
        @functools.wraps(path)
        def checked(points: Keyframes, scene: PathContext, **options: Any) -> Curve:
            check_path(checked, points.space)
            return path(points, scene, **options)

        checked.spaces, checked.otherwise = spaces, otherwise
        return checked

    return decorate


def check_path(path: Any, space: str) -> None:
    """UserError where `path`, or a path that it is made of, makes no sense in `space`; costs nothing."""
    if isinstance(path, functools.partial):
        for part in (path.func, *path.args, *path.keywords.values()):
            check_path(part, space)
    elif space not in getattr(path, "spaces", SPACES):
        raise UserError(
            f"The path {path.__name__} is for {' and '.join(path.spaces)}, not for {space}: {path.otherwise}."
        )


def has_sense(path: Any, space: str) -> bool:
    """Whether `check_path` lets it pass."""
    try:
        check_path(path, space)
    except UserError:
        return False
    return True


# Curves through key points


def through(points: Keyframes, codes: Callable[[Tensor], Tensor]) -> Curve:
    """The curve of `codes`, as `Curve.codes` but rounded at the ends: at whole positions it is the key point itself."""
    keys = points.codes

    def exact(t: Tensor) -> Tensor:
        nearest = t.round().long()
        is_key = (t == nearest).to(keys.device).view(-1, *[1] * (keys.ndim - 1))
        return torch.where(is_key, keys[nearest.to(keys.device)], codes(t).to(keys.dtype))

    return Curve(exact)


def chain(points: Keyframes, between: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Curve:
    """The curve that goes from each key point to the next by itself.

    `between(a, b, t)` with a and b (T, *shape) and t (T,) in [0, 1] gives the codes (T, *shape) from `a` at t = 0 to
    `b` at t = 1.
    """
    return through(points, lambda t: along(points.codes, t, between))


def along(keys: Tensor, t: Tensor, between: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """`between` applied to keys (K, *shape) before and after each position t (T,) in [0, K-1]: (T, *shape)."""
    before = segments(t, len(keys))
    first = before.to(keys.device)
    return between(keys[first], keys[first + 1], t - before)


def segments(t: Tensor, num_keys: int) -> Tensor:
    """The transition (T,) that each position lies in; the last key point ends the last one."""
    return t.floor().long().clamp(0, num_keys - 2)


def path_name(path: Any) -> str:
    """A path's name: that of its function; partials (what a config builds) are named after the function inside."""
    while isinstance(path, functools.partial):
        path = path.func
    return path.__name__


# Positions


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
