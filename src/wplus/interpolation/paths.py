"""Closed-form paths. A path is a function `path(keyframes, context) -> Curve`, exact at every keyframe.

To add a path, write one function here (or anywhere) and one file in configs/path/.
"""

import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from wplus.errors import check_number
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import Curve, PathContext, along, chain, in_spaces, through
from wplus.latents import interpolation


def lerp(keyframes: Keyframes, context: PathContext) -> Curve:
    """Straight line from each keyframe to the next."""
    return chain(keyframes, interpolation.lerp)


@in_spaces("z", "z+", "w", "w+", "code", "pn", "pn+", otherwise="the origin has no meaning there; choose path=lerp")
def slerp(keyframes: Keyframes, context: PathContext) -> Curve:
    """Great circle about the origin over the last dimension, with linearly interpolated length.

    This is the natural path in z, where the prior's mass lies on a sphere about the origin and the mapping network uses
    directions only; in pn and pn+ the prior is normal, too. In w and w+ the origin has no special meaning to the
    generator (in w+ each layer is rotated independently).
    """
    return chain(keyframes, interpolation.slerp)


@in_spaces("w", "w+", "code", otherwise="in z the mean is the origin; choose path=slerp")
def slerp_centered(keyframes: Keyframes, context: PathContext) -> Curve:
    """Great circle about the generator's mean latent w_avg, with linearly interpolated distance from it.

    A straight line passes closer to the mean than its ends, where images look more average than either, as with
    truncation; this path keeps its distance. In w+ each layer is rotated independently.
    """
    mean = interpolation.precise(context.generator.mapping.w_avg)
    return through(keyframes, lambda t: mean + along(keyframes.codes - mean, t, interpolation.slerp))


@in_spaces("w", "w+", otherwise="z is already normal; choose space=w, or path=lerp")
def pn(keyframes: Keyframes, context: PathContext) -> Curve:
    """Straight line in P_N, where the prior of w is normal (Zhu et al. 2020, arXiv:2012.09036); per layer in w+.

    Whitening itself is linear and does not bend the line; the leaky ReLU before it does: entries of w that change sign
    along the path move at a fifth of the speed below zero. See `wplus.latents.w_stats.Whitened`.
    """
    codes = interpolation.precise(keyframes.codes)
    prior = context.whitened.to(codes)
    keys = prior.coordinates(codes)
    return through(keyframes, lambda t: prior.from_coordinates(along(keys, t, interpolation.lerp)))


def spline(keyframes: Keyframes, context: PathContext) -> Curve:
    """Natural cubic spline through the keyframes; periodic for loops, and so as smooth at the seam as elsewhere.

    Of all curves through the keyframes it bends least (integral of the squared second derivative; Holladay 1957). It is
    twice continuously differentiable, so videos do not jolt at a keyframe.
    """
    keys = keyframes.codes
    ends = "periodic" if keyframes.closed else "natural"
    cubic = CubicSpline(range(len(keys)), keys.cpu().double().numpy(), bc_type=ends)
    return through(keyframes, lambda t: torch.from_numpy(cubic(t.cpu().numpy())).to(keys))


# Layer by layer


@in_spaces("w+", otherwise="layers can only move one after another if each has its own code; choose space=w+")
def coarse_first(
    keyframes: Keyframes,
    context: PathContext,
    *,
    overlap: float = 0.5,  # 0: one layer at a time | 1: all together, which is lerp
) -> Curve:
    """Straight lines, one layer after another: coarse ones (pose, shape) first, fine ones (colour, detail) last.

    Each layer moves at constant speed within a window that takes overlap + (1 - overlap) / num_ws of the path.
    """
    return _layer_by_layer(keyframes, overlap, torch.arange(keyframes.codes.shape[1]))


@in_spaces("w+", otherwise="layers can only move one after another if each has its own code; choose space=w+")
def fine_first(
    keyframes: Keyframes,
    context: PathContext,
    *,
    overlap: float = 0.5,  # 0: one layer at a time | 1: all together, which is lerp
) -> Curve:
    """Like `coarse_first`, in reverse order of layers; equal to `coarse_first` from b to a, traversed backwards."""
    return _layer_by_layer(keyframes, overlap, torch.arange(keyframes.codes.shape[1]).flip(0))


def _layer_by_layer(keyframes: Keyframes, overlap: float, order: Tensor) -> Curve:
    """Move layers one after another; `order` (num_ws,) is each layer's place in the sequence, from 0."""
    check_number("overlap", overlap, lowest=0, highest=1)
    num = len(order)
    window = overlap + (1 - overlap) / num
    starts = order.double() * (1 - window) / max(num - 1, 1)

    def between(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        start, end = interpolation.precise(a), interpolation.precise(b)
        times = ((t[:, None] - starts) / window).clamp(0, 1)  # (T, num_ws): each layer's progress
        return torch.lerp(start, end, times[..., None].to(start))

    return chain(keyframes, between)
