"""Paths that need no search. A path is a function `path(keyframes, context) -> Curve`, exact at every keyframe.

A new path is one function here (or anywhere) and one file in configs/path/.
"""

import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from wplus.errors import check_number
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import Curve, PathContext, along, chain, in_spaces, through
from wplus.latents import interpolation


def lerp(keyframes: Keyframes, context: PathContext) -> Curve:
    """The straight line from each keyframe to the next."""
    return chain(keyframes, interpolation.lerp)


@in_spaces("z", "z+", "w", "w+", "code", "pn", "pn+", otherwise="the origin means nothing there; choose path=lerp")
def slerp(keyframes: Keyframes, context: PathContext) -> Curve:
    """The great circle about the origin, length interpolated linearly; over the last dimension.

    In z that is the natural path: the prior's mass lies on a sphere about the origin, and the mapping network sees
    directions only; in pn and pn+ the prior is normal, too. In w and w+ the origin means nothing to the generator (w+
    turns each layer on its own).
    """
    return chain(keyframes, interpolation.slerp)


@in_spaces("w", "w+", "code", otherwise="in z the mean is the origin, and path=slerp goes about that")
def slerp_centered(keyframes: Keyframes, context: PathContext) -> Curve:
    """The great circle about the generator's mean latent w_avg, the distance from it interpolated linearly.

    A straight line passes nearer to the mean than its ends, where images are more average than either, as truncation
    makes them; this path keeps the distance. In w+ each layer turns on its own.
    """
    mean = interpolation.precise(context.generator.mapping.w_avg)
    return through(keyframes, lambda t: mean + along(keyframes.codes - mean, t, interpolation.slerp))


@in_spaces("w", "w+", otherwise="z is normal as it is; choose space=w, or path=lerp")
def pn(keyframes: Keyframes, context: PathContext) -> Curve:
    """The straight line in P_N, where the prior of w is normal (Zhu et al. 2020, arXiv:2012.09036); in w+ by layer.

    Whitening as such bends nothing, being linear; what bends is the leaky ReLU before it: numbers of w that change
    their sign on the way do so by a fifth of the speed below zero. See `wplus.latents.w_stats.Whitened`.
    """
    codes = interpolation.precise(keyframes.codes)
    prior = context.whitened.to(codes)
    keys = prior.coordinates(codes)
    return through(keyframes, lambda t: prior.from_coordinates(along(keys, t, interpolation.lerp)))


def spline(keyframes: Keyframes, context: PathContext) -> Curve:
    """The natural cubic spline through the keyframes; a loop's is periodic, as smooth at its seam as elsewhere.

    Of all curves through them that which bends least (the integral of the squared second derivative; Holladay 1957),
    twice continuously differentiable, so that a video does not jolt where it passes an image.
    """
    keys = keyframes.codes
    ends = "periodic" if keyframes.closed else "natural"
    cubic = CubicSpline(range(len(keys)), keys.cpu().double().numpy(), bc_type=ends)
    return through(keyframes, lambda t: torch.from_numpy(cubic(t.cpu().numpy())).to(keys))


# Layer by layer


@in_spaces("w+", otherwise="layers can move one after another only where each has a code of its own, choose space=w+")
def coarse_first(
    keyframes: Keyframes,
    context: PathContext,
    *,
    overlap: float = 0.5,  # 0: one layer at a time | 1: all together, which is lerp
) -> Curve:
    """Straight lines, the layers one after another: coarse ones (pose, shape) first, fine ones (colour, detail) last.

    Each layer moves at constant speed in a window of the share overlap + (1 - overlap) / num_ws of the way.
    """
    return _layer_by_layer(keyframes, overlap, torch.arange(keyframes.codes.shape[1]))


@in_spaces("w+", otherwise="layers can move one after another only where each has a code of its own, choose space=w+")
def fine_first(
    keyframes: Keyframes,
    context: PathContext,
    *,
    overlap: float = 0.5,  # 0: one layer at a time | 1: all together, which is lerp
) -> Curve:
    """As `coarse_first` in the other order; from b to a backwards it is that very path."""
    return _layer_by_layer(keyframes, overlap, torch.arange(keyframes.codes.shape[1]).flip(0))


def _layer_by_layer(keyframes: Keyframes, overlap: float, order: Tensor) -> Curve:
    """`order` (num_ws,): the place in the queue of each layer, from 0."""
    check_number("overlap", overlap, lowest=0, highest=1)
    num = len(order)
    window = overlap + (1 - overlap) / num
    starts = order.double() * (1 - window) / max(num - 1, 1)

    def between(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        start, end = interpolation.precise(a), interpolation.precise(b)
        times = ((t[:, None] - starts) / window).clamp(0, 1)  # (T, num_ws): how far each layer is
        return torch.lerp(start, end, times[..., None].to(start))

    return chain(keyframes, between)
