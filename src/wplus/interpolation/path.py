"""Core definitions: paths turn keyframes into curves, using a context; a timeline gives the positions a video shows.

A path is a function `path(keyframes, context) -> Curve`. Positions t count keyframes: 0 is the first, 1 the second,
K - 1 the last of K; 0.5 is halfway between the first two, at the path's own pace.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wplus.core.progress import track
from wplus.errors import UserError, check_choice, check_number
from wplus.interpolation.keyframes import Keyframes
from wplus.latents.space import Space, whitened
from wplus.latents.w_stats import Whitened
from wplus.losses.image_pair import ImageDistance
from wplus.models.generator import GeneratorNetwork


@dataclass(frozen=True)
class Curve:
    """A path as a function of position; exact at integer positions, which are the keyframes."""

    codes: Callable[[Tensor], Tensor]
    """Positions t (T,) float64 in [0, K-1] -> codes (T, *shape), on the keyframes' device."""
    time_map: Callable[[Tensor], Tensor] = lambda t: t
    """t (T,) -> positions (T,) of labels, noise and tuned weights, so that re-timing a path also re-times these."""


@dataclass(frozen=True)
class PathContext:
    """What a path has access to, such as the generator and a perceptual distance."""

    generator: GeneratorNetwork
    perceptual: ImageDistance
    batch_size: int = 16
    num_frames: int = 60  # per transition, both ends included; re-timing makes the steps between these frames even
    progress: Callable[..., Iterable[Any]] = track  # shows the progress of a path's search

    @functools.cached_property
    def whitened(self) -> Whitened:
        """The generator's prior, estimated on first use."""
        return whitened(self.generator)


LatentPath = Callable[[Keyframes, PathContext], Curve]


def in_spaces(*spaces: Space, otherwise: str) -> Callable[[Callable[..., Curve]], Callable[..., Curve]]:
    """Restrict a path to these spaces; others raise a UserError that ends in `otherwise`, what to choose instead."""

    def decorate(path: Callable[..., Curve]) -> Callable[..., Curve]:
        @functools.wraps(path)
        def checked(keyframes: Keyframes, context: PathContext, **options: Any) -> Curve:
            check_path(checked, keyframes.space)
            return path(keyframes, context, **options)

        checked.__dict__.update(spaces=spaces, otherwise=otherwise)
        return checked

    return decorate


def check_path(path: Any, space: str) -> None:
    """Raise UserError if `path`, or a path among its options, does not support `space`; does not run the path."""
    if isinstance(path, functools.partial):
        for part in (path.func, *path.args, *path.keywords.values()):
            check_path(part, space)
    elif space not in getattr(path, "spaces", (space,)):
        allowed = " or ".join(path.spaces)
        raise UserError(f"The space of path {path.__name__} must be {allowed}, got {space}: {path.otherwise}.")


def is_for(path: object, space: str) -> bool:
    """Whether `path` supports `space`, by `check_path`."""
    try:
        check_path(path, space)
    except UserError:
        return False
    return True


def through(keyframes: Keyframes, codes: Callable[[Tensor], Tensor]) -> Curve:
    """Make a curve from `codes` (see `Curve.codes`) that is exactly the keyframe at integer positions."""
    keys = keyframes.codes

    def exact(t: Tensor) -> Tensor:
        nearest = t.round().long()
        is_key = (t == nearest).to(keys.device).view(-1, *[1] * (keys.ndim - 1))
        return torch.where(is_key, keys[nearest.to(keys.device)], codes(t).to(keys.dtype))

    return Curve(exact)


def chain(keyframes: Keyframes, between: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Curve:
    """Make a curve that joins each keyframe to the next independently: `between(a, b, t)` gives the codes (T, *shape)
    at t (T,) in [0, 1] from a to b, both (T, *shape)."""
    return through(keyframes, lambda t: along(keyframes.codes, t, between))


def along(keys: Tensor, t: Tensor, between: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Apply `between` to the keys (K, *shape) before and after each position t (T,) in [0, K-1]: (T, *shape)."""
    before = transition_of(t, len(keys))
    first = before.to(keys.device)
    return between(keys[first], keys[first + 1], t - before)


def piecewise(nodes: Tensor, t: Tensor) -> Tensor:
    """Interpolate linearly at t (T,) in [0, K-1] between nodes (K-1, M+1, *shape), evenly spaced per transition."""
    row = transition_of(t, len(nodes) + 1)
    place = (t - row) * (nodes.shape[1] - 1)
    left = place.floor().long().clamp(0, nodes.shape[1] - 2)
    share = (place - left).to(nodes).view(-1, *[1] * (nodes.ndim - 2))
    row, left = row.to(nodes.device), left.to(nodes.device)
    return torch.lerp(nodes[row, left], nodes[row, left + 1], share)


def transition_of(t: Tensor, num_keys: int) -> Tensor:
    """Index (T,) of the transition that contains each position; the last keyframe belongs to the last transition."""
    return t.floor().long().clamp(0, num_keys - 2)


def timeline(num_keys: int, num_frames: int, *, alpha: str = "b_at_one") -> Tensor:
    """Positions in [0, K-1] of the frames of a video through K keyframes, float64, in the order they are shown.

    `num_frames` is per transition, both ends included, so there are (K-1) * (num_frames-1) + 1 frames in total. `alpha`
    is the convention: "b_at_one" runs from the first keyframe (t = 0) to the last (t = 1); "a_at_one" is the opposite
    one, code = alpha * a + (1 - alpha) * b with alpha growing from 0 to 1, which reverses the video.
    """
    check_number("the number of keyframes", num_keys, lowest=2, whole=True)
    check_number("num_frames", num_frames, lowest=2, whole=True)
    check_choice("alpha", alpha, ("b_at_one", "a_at_one"))
    steps = num_frames - 1
    frames = torch.arange((num_keys - 1) * steps + 1)
    # Integer part plus fraction, so that every keyframe is hit exactly for any number of frames.
    positions = (frames // steps).double() + (frames % steps).double() / steps
    return positions if alpha == "b_at_one" else positions.flip(0)


def even_positions(num_frames: int) -> Tensor:
    """Evenly spaced positions (T,), float64, from exactly 0 to exactly 1."""
    return torch.linspace(0, 1, num_frames, dtype=torch.float64)


def middle_of(t: Tensor) -> Tensor:
    """Indices of the positions t (T,) halfway along: one, or two if T is even."""
    away = (t - 0.5).abs()
    return (away <= away.min() + 1e-9).nonzero()[:, 0]
