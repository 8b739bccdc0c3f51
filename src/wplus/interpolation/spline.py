"""A smooth curve through all key points at once."""

from __future__ import annotations

import torch
from torch import Tensor

from wplus.interpolation.curve import Curve, PathContext, segments, through
from wplus.interpolation.keyframes import Keyframes


def spline(points: Keyframes, scene: PathContext) -> Curve:
    """The natural cubic spline through the key points; a loop's is periodic, as smooth at its seam as elsewhere.

    Of all curves through them that which bends least (the integral of the squared second derivative; Holladay 1957),
    twice continuously differentiable, so that a film does not jolt where it passes an image. Two key points: the
    straight line. Knots are whole positions, an equal time for each transition.
    """
    keys = points.codes.to(torch.float32 if points.codes.device.type == "mps" else torch.float64)
    bends = (_periodic_bends if points.closed else _natural_bends)(keys)
    return through(points, lambda t: _cubic(keys, bends, t))


def _natural_bends(keys: Tensor) -> Tensor:
    """Second derivatives (K, *shape) at the knots, 0 at both ends: m[i-1] + 4 m[i] + m[i+1] = 6 (second difference)."""
    num = len(keys) - 2
    bends = torch.zeros_like(keys)
    if num > 0:
        matrix = 4 * torch.eye(num) + torch.diag(torch.ones(num - 1), 1) + torch.diag(torch.ones(num - 1), -1)
        bends[1:-1] = _solved(matrix, keys[2:] - 2 * keys[1:-1] + keys[:-2])
    return bends


def _periodic_bends(keys: Tensor) -> Tensor:
    """The same for keys (K, *shape) whose last is the first: the equations go round."""
    ring = keys[:-1]
    eye = torch.eye(len(ring))
    matrix = 4 * eye + eye.roll(1, 0) + eye.roll(-1, 0)
    bends = _solved(matrix, ring.roll(-1, 0) - 2 * ring + ring.roll(1, 0))
    return torch.cat([bends, bends[:1]])


def _solved(matrix: Tensor, differences: Tensor) -> Tensor:
    flat = torch.linalg.solve(matrix.to(differences), 6 * differences.flatten(1))
    return flat.view_as(differences)


def _cubic(keys: Tensor, bends: Tensor, t: Tensor) -> Tensor:
    """The cubics with these values and second derivatives at whole positions (de Boor 1978, chapter 4)."""
    before = segments(t, len(keys))
    after = (t - before).to(keys).view(-1, *[1] * (keys.ndim - 1))
    left, right = before.to(keys.device), before.to(keys.device) + 1
    line = (1 - after) * keys[left] + after * keys[right]
    return line + ((1 - after) ** 3 - (1 - after)) * bends[left] / 6 + (after**3 - after) * bends[right] / 6
