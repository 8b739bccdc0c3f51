from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from wplus.interpolation.curve import Curve, PathContext
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.paths import lerp
from wplus.interpolation.spline import spline

SCENE = PathContext(generator=None, perceptual=None)


def curve(keys: torch.Tensor, *, closed: bool = False) -> Curve:
    keys = torch.cat([keys, keys[:1]]) if closed else keys
    space = "w" if keys.ndim == 2 else "w+"
    return spline(Keyframes(keys, space, tuple(map(str, range(len(keys)))), closed=closed), SCENE)


@pytest.mark.parametrize("num_keys", [2, 3, 4, 7])
@pytest.mark.parametrize("closed", [False, True])
def test_it_is_scipys_spline(num_keys: int, closed: bool) -> None:
    keys = torch.randn(num_keys, 3, 5, dtype=torch.float64)
    ring = torch.cat([keys, keys[:1]]) if closed else keys
    t = torch.linspace(0, len(ring) - 1, 50, dtype=torch.float64)
    expected = CubicSpline(np.arange(len(ring)), ring.numpy(), bc_type="periodic" if closed else "natural")(t.numpy())
    torch.testing.assert_close(curve(keys, closed=closed).codes(t), torch.from_numpy(expected))


def test_two_key_points_are_joined_by_the_straight_line() -> None:
    keys, t = torch.randn(2, 8), torch.linspace(0, 1, 9, dtype=torch.float64)
    points = Keyframes(keys, "w", ("a", "b"))
    torch.testing.assert_close(spline(points, SCENE).codes(t), lerp(points, SCENE).codes(t))


@pytest.mark.parametrize("closed", [False, True])
def test_every_key_point_is_hit_bit_for_bit(closed: bool) -> None:
    keys = torch.randn(5, 4)
    assert torch.equal(curve(keys, closed=closed).codes(torch.arange(5).double()), keys)


def test_the_slope_is_the_same_on_both_sides_of_a_key_point_and_of_a_loops_seam() -> None:
    keys, step = torch.randn(4, 6, dtype=torch.float64), 1e-4
    for closed, knots in ((False, [1, 2]), (True, [1, 2, 3])):
        codes = curve(keys, closed=closed).codes
        for knot in knots:
            before, at, after = codes(torch.tensor([knot - step, knot, knot + step], dtype=torch.float64))
            torch.testing.assert_close((at - before) / step, (after - at) / step, atol=1e-2, rtol=0)
    first, second, before, last = codes(torch.tensor([0, step, 4 - step, 4], dtype=torch.float64))
    assert torch.equal(first, last)
    torch.testing.assert_close((second - first) / step, (last - before) / step, atol=1e-2, rtol=0)


def test_a_loop_through_a_circle_is_nearly_round() -> None:
    """Of the error of a periodic cubic spline of step h: 1/384 h^4 |f''''| (Hall and Meyer 1976), here 8 keys."""
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    keys = torch.stack([angle.cos(), angle.sin()], dim=1)
    t = torch.linspace(0, 8, 200, dtype=torch.float64)
    expected = torch.stack([(t * math.pi / 4).cos(), (t * math.pi / 4).sin()], dim=1)
    error = (curve(keys, closed=True).codes(t) - expected).norm(dim=1).max()
    assert error < 5 / 384 * (math.pi / 4) ** 4


def test_a_place_in_the_middle_moves_when_a_far_key_does_so_little() -> None:
    """What follows a key point is prepared before it: the curve belongs to all keys, and forgets them quickly."""
    keys, t = torch.randn(8, 3, dtype=torch.float64), torch.tensor([1.5], dtype=torch.float64)
    moved = [keys.clone() for _ in range(2)]
    moved[0][3] += 1
    moved[1][7] += 1
    near, far = ((curve(other).codes(t) - curve(keys).codes(t)).abs().max() for other in moved)
    assert 0 < far < 0.01 * near
