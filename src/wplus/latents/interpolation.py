"""Straight lines and great circles between batches of latents; exact at both ends.

Computed in float64 (float32 on devices without it), because PPL takes steps of a ten-thousandth of the path.
"""

import torch
from torch import Tensor

# Below this sine of the angle, two directions count as parallel or antipodal; float32 cannot resolve less.
_SAME_LINE = 1e-7
_TINY = 1e-30  # keeps 0 / 0 from becoming NaN


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Linear interpolation: a (N or 1, ...), b (N or 1, ...), t (N,) -> (N, ...) in the dtype of `a`.

    Returns exactly `a` at t = 0 and exactly `b` at t = 1, and is constant where a equals b.
    """
    weight, start, end = _along_first(t, a), precise(a), precise(b)
    return _with_exact_ends(start + weight * (end - start), a, b, weight)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation about the origin along the last dimension: a, b (N or 1, ..., D), t (N,) -> (N, ..., D).

    The direction rotates at constant speed (Shoemake 1985, "Animating rotation with quaternion curves"), the length
    changes linearly from |a| to |b|; unit vectors stay unit vectors. Each vector along the last dimension rotates
    independently: a (num_ws, w_dim) latent undergoes num_ws rotations, not one. Degenerate cases: parallel vectors
    (including equal ones, and pairs with a zero vector) give the straight line, the limit of the formula; antipodal
    vectors have no unique great circle, so the one through the coordinate axis most orthogonal to `a` is used.
    """
    weight = _along_first(t, a)
    start, end = torch.broadcast_tensors(precise(a), precise(b))
    length_a, length_b = start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True)
    unit_a, unit_b = start / length_a.clamp_min(_TINY), end / length_b.clamp_min(_TINY)
    # A zero vector takes the direction of the other one, which makes the path a straight line.
    unit_a, unit_b = torch.where(length_a == 0, unit_b, unit_a), torch.where(length_b == 0, unit_a, unit_b)
    angle, tangent = _angle_and_tangent(unit_a, unit_b)
    direction = unit_a * torch.cos(weight * angle) + tangent * torch.sin(weight * angle)
    between = direction * (length_a + weight * (length_b - length_a))
    return _with_exact_ends(between, a, b, weight)


def precise(x: Tensor) -> Tensor:
    """x in float64, or float32 on devices without float64."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def _along_first(t: Tensor, like: Tensor) -> Tensor:
    """t (N,) -> (N, 1, ..., 1) with as many dimensions as `like`, on its device."""
    return precise(t.to(like.device)).reshape(-1, *[1] * (like.ndim - 1))


def _with_exact_ends(between: Tensor, a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    return torch.where(weight == 0, a, torch.where(weight == 1, b.to(a.dtype), between.to(a.dtype)))


def _angle_and_tangent(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Angle between unit vectors (also accurate near 0 and pi, Kahan 2006) and the unit tangent at `a` towards `b`."""
    angle = 2 * torch.atan2((a - b).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True))
    most_orthogonal = torch.zeros_like(a).scatter_(-1, a.abs().argmin(dim=-1, keepdim=True), 1.0)
    tangent, sine = _tangent(a, b)
    return angle, torch.where(sine > _SAME_LINE, tangent, _tangent(a, most_orthogonal)[0])


def _tangent(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The unit vector orthogonal to the unit vector `a` on the side of `b`, and the sine of the angle between them."""
    sideways = b - (a * b).sum(dim=-1, keepdim=True) * a
    sine = sideways.norm(dim=-1, keepdim=True)
    return sideways / sine.clamp_min(_SAME_LINE), sine
