"""A strong-Wolfe line search for many problems at once, one trial point per problem and round.

Each problem keeps a bracket [low, high] of step lengths: `low` decreases enough (Armijo) and still slopes down, `high`
does not decrease enough or slopes up, so that an acceptable step lies between (Nocedal & Wright, section 3.5). Problems
do not wait for each other: whoever finds a step starts the next search while others still look.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_GROW = 4.0  # factor of the next trial while nothing bounds the step from above
_MARGIN = 0.1  # interpolated trials keep this share of the bracket away from its ends


@dataclass
class Bracket:
    """Where the searches of N problems stand; every field is (N,). `slope` is the derivative along the direction."""

    low: Tensor
    low_value: Tensor
    low_slope: Tensor
    high: Tensor
    high_value: Tensor
    high_slope: Tensor
    tries: Tensor

    @staticmethod
    def new(value: Tensor, slope: Tensor) -> Bracket:
        """A fresh search at step 0, where the functions have this value and slope."""
        zero, infinite = torch.zeros_like(value), torch.full_like(value, float("inf"))
        return Bracket(zero, value, slope, infinite, infinite, infinite, zero)

    def where(self, mask: Tensor, other: Bracket) -> Bracket:
        """`self` where the mask (N,) is set, else `other`."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Bracket(*[torch.where(mask, a, b) for a, b in pairs])


def judge(
    step: Tensor, value: Tensor, slope: Tensor, *, start_value: Tensor, start_slope: Tensor, c1: float, c2: float
) -> tuple[Tensor, Tensor]:
    """Is a trial low enough (Armijo), and is it also flat enough (strong Wolfe): two masks (N,)."""
    low_enough = torch.isfinite(value) & (value <= start_value + c1 * step * start_slope)
    return low_enough, low_enough & (slope.abs() <= -c2 * start_slope)


def narrow(bracket: Bracket, step: Tensor, value: Tensor, slope: Tensor, low_enough: Tensor) -> Bracket:
    """The bracket with the trial as its new lower or upper end."""
    below = low_enough & (slope < 0)
    as_low = Bracket(step, value, slope, bracket.high, bracket.high_value, bracket.high_slope, bracket.tries + 1)
    as_high = Bracket(bracket.low, bracket.low_value, bracket.low_slope, step, value, slope, bracket.tries + 1)
    return as_low.where(below, as_high)


def next_step(bracket: Bracket) -> Tensor:
    """The next trial (N,): further out while the bracket is open, else the minimum of the cubic through its ends."""
    width = bracket.high - bracket.low
    share = (_cubic_minimum(bracket, width) / width).clamp(_MARGIN, 1 - _MARGIN)
    inside = bracket.low + torch.where(torch.isfinite(share), share, 0.5) * width
    return torch.where(torch.isinf(bracket.high), bracket.low * _GROW, inside)


def _cubic_minimum(bracket: Bracket, width: Tensor) -> Tensor:
    """Distance from `low` to the minimum of the cubic with both ends' values and slopes (Nocedal & Wright 3.59)."""
    d1 = bracket.low_slope + bracket.high_slope - 3 * (bracket.high_value - bracket.low_value) / width
    d2 = (d1.square() - bracket.low_slope * bracket.high_slope).clamp_min(0).sqrt()
    return width - width * (bracket.high_slope + d2 - d1) / (bracket.high_slope - bracket.low_slope + 2 * d2)
