"""Paths that need no search. A path is a function `path(points, scene) -> Curve`, exact at every key point.

A new path is one function here (or anywhere) and one file in configs/path/.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.interpolation.curve import Curve, PathContext, along, chain, in_spaces, through
from wplus.interpolation.keyframes import Keyframes
from wplus.latents import interpolation as geometry


def lerp(points: Keyframes, scene: PathContext) -> Curve:
    """The straight line from each key point to the next."""
    return chain(points, geometry.lerp)


def slerp(points: Keyframes, scene: PathContext) -> Curve:
    """The great circle about the origin, length interpolated linearly; over the last dimension.

    In z that is the natural path: the prior's mass lies on a sphere about the origin, and the mapping network sees
    directions only. In w and w+ the origin means nothing to the generator; there it is a curve like another (w+ turns
    each layer's code on its own). Parallel and antipodal codes: see `wplus.latents.interpolation.slerp`.
    """
    return chain(points, geometry.slerp)


@in_spaces("w", "w+", otherwise="in z the mean is the origin, and path=slerp goes about that")
def slerp_mean(points: Keyframes, scene: PathContext) -> Curve:
    """The great circle about the generator's mean latent w_avg, the distance from it interpolated linearly.

    A straight line passes nearer to the mean than its ends, where pictures are more average than either, as truncation
    makes them; this path keeps the distance. In w+ each layer turns on its own.
    """
    mean = _precise(scene.generator.mapping.w_avg)

    def between(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        return mean + geometry.slerp(_precise(a) - mean, _precise(b) - mean, t)

    return chain(points, between)


@in_spaces("w", "w+", otherwise="z is normal as it is; choose space=w, or path=lerp")
def whitened(points: Keyframes, scene: PathContext) -> Curve:
    """The straight line in coordinates that make the prior of w normal, `wplus.latents.w_stats.Whitened`; in w+ layer by layer.

    Zhu et al. 2020, arXiv:2012.09036, call the space P_N. Whitening as such bends nothing, being linear; what bends is
    the leaky ReLU before it: numbers of w that change their sign on the way do so by a fifth of the speed below zero.
    """
    prior = scene.whitened.to(_precise(points.codes))
    keys = prior.coordinates(_precise(points.codes))
    return through(points, lambda t: prior.from_coordinates(along(keys, t, geometry.lerp)))


# A clock for each layer


@in_spaces("w+", otherwise="layers can move one after another only where each has a code of its own, choose space=w+")
def coarse_first(points: Keyframes, scene: PathContext, *, overlap: float = 0.5) -> Curve:
    """Straight lines, the layers one after another: coarse ones (pose, shape) first, fine ones (colour, detail) last.

    `overlap` in [0, 1]: 0 moves one layer at a time, 1 moves all together, which is `lerp`. Each layer moves at
    constant speed in a window of the share overlap + (1 - overlap) / num_ws of the way.
    """
    return _layer_by_layer(points, overlap, torch.arange(points.codes.shape[1]))


@in_spaces("w+", otherwise="layers can move one after another only where each has a code of its own, choose space=w+")
def fine_first(points: Keyframes, scene: PathContext, *, overlap: float = 0.5) -> Curve:
    """As `coarse_first` in the other order; from b to a backwards it is that very path."""
    return _layer_by_layer(points, overlap, torch.arange(points.codes.shape[1]).flip(0))


def _layer_by_layer(points: Keyframes, overlap: float, order: Tensor) -> Curve:
    """`order` (num_ws,): the place in the queue of each layer, from 0."""
    if not 0 <= overlap <= 1:
        raise UserError(f"overlap={overlap} is not allowed: it must be from 0 (one by one) to 1 (all together).")

    def between(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        clocks = layer_clocks(t, order, overlap).to(a.device)[..., None]
        return torch.lerp(_precise(a), _precise(b), clocks.to(_precise(a)))

    return chain(points, between)


def layer_clocks(t: Tensor, order: Tensor, overlap: float) -> Tensor:
    """How far each layer is (T, num_ws), 0 to 1, when the whole is at t (T,) in [0, 1]."""
    num = len(order)
    window = overlap + (1 - overlap) / num
    starts = order.double() * (1 - window) / max(num - 1, 1)
    return ((t[:, None] - starts) / window).clamp(0, 1)


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)
