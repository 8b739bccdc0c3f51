"""Inversion by L-BFGS (Liu & Nocedal 1989) with a strong-Wolfe line search, for many independent problems at once.

Each problem has its own memory, step length and stopping rule; the usual single curvature model for a whole batch would
couple its members. A round evaluates every problem once, at the point its own line search asks for; a problem that has
found a step starts its next search while others are still searching. No value is read back from the device. Algorithm
and section numbers refer to Nocedal & Wright, Numerical Optimization.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from wplus.core.runtime import float32_convolutions
from wplus.errors import UserError, check_number
from wplus.inversion.objective import LOSS_WEIGHTS
from wplus.inversion.problem import Problem
from wplus.inversion.result import CHECK_EVERY, Inversion, where_rows
from wplus.inversion.task import InversionTask

_C1, _C2 = 1e-4, 0.9  # constants of the strong Wolfe conditions
_GROW = 4.0  # growth factor of trial steps while the step has no upper bound
_MARGIN = 0.1  # interpolated trials keep this share of the bracket away from its ends
Fields = TypeVar("Fields", "Point", "Bracket")


@float32_convolutions()
def lbfgs(
    task: InversionTask,
    *,
    num_steps: int = 250,  # evaluations of generator and loss, including trials of the line searches
    memory: int = 10,  # pairs of steps and gradient differences kept for the curvature model
    first_step: float = 0.1,  # root mean square, per number, of the very first step and of a restart
    max_tries: int = 10,  # evaluations per line search; then the best point is taken, or the memory is dropped
    tolerance: float = 1e-7,  # an image is done when no component of its gradient is larger
    loss_weights: Mapping[str, float] = LOSS_WEIGHTS,  # of the terms of the loss, including further ones by name
    init: Literal["mean", "seed", "best_of_n", "encoder"] = "mean",  # mean | seed (random) | best_of_n | encoder
    num_candidates: int = 500,  # samples that best_of_n chooses from
    restarts: int = 0,  # further attempts from random samples; the one with the lowest loss is kept per image
    early_stop: Mapping[str, float] | None = None,  # or {patience: 50, tolerance: 0.01}, see `EarlyStop`
    noise: Literal["fixed", "optimize"] = "fixed",  # the generator's stored noise | noise maps per image
    return_best: bool = True,  # return the lowest loss of all evaluations; false: the last step (NVlabs)
) -> Inversion:
    """Images -> latents with L-BFGS, each image independently. UserError for options that do not fit the task."""
    check_number("memory", memory, lowest=1, whole=True)
    check_number("max_tries", max_tries, lowest=2, whole=True)
    if not first_step > 0:
        raise UserError(f"first_step must be above 0, got {first_step}.")
    problem = Problem(
        task, num_steps=num_steps, loss_weights=loss_weights, init=init, num_candidates=num_candidates,
        restarts=restarts, early_stop=early_stop, noise=noise, return_best=return_best,
    )  # fmt: skip

    def descend(problem: Problem) -> list[Tensor]:
        like = problem.params

        def evaluate(points: Tensor) -> tuple[Tensor, Tensor]:
            loss, gradients = problem.evaluate(_split(points, like))
            return loss, _flat(gradients)

        found = minimise(
            evaluate, _flat(like), max_evaluations=num_steps, memory=memory, first_step=first_step,
            max_tries=max_tries, tolerance=tolerance, given_up=lambda: problem.record.frozen,
        )  # fmt: skip
        return _split(found, like)

    return problem.solve(descend)


def _flat(params: Sequence[Tensor]) -> Tensor:
    """Params (N, ...) as points (N, D)."""
    return torch.cat([param.flatten(1) for param in params], dim=1)


def _split(points: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Points (N, D) as tensors of the shapes of `like`."""
    sizes = [param[0].numel() for param in like]
    return [part.view_as(param) for part, param in zip(points.split(sizes, dim=1), like, strict=True)]


@torch.no_grad()
def minimise(
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor, *, max_evaluations: int, memory: int = 10,
    first_step: float = 0.1, max_tries: int = 10, tolerance: float = 1e-7,
    given_up: Callable[[], Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """Minimise N functions of D numbers each, independently: start x (N, D) -> the best points found (N, D).

    Args:
        evaluate: points (N, D) -> values (N,) and gradients (N, D).
        max_evaluations: calls of `evaluate`; fewer when all problems are done.
        given_up: called after every evaluation; returns a mask (N,) of problems to stop.
    """
    start = Point(x, *evaluate(x))
    search = QuasiNewton(start, memory=memory, first_step=first_step, max_tries=max_tries, tolerance=tolerance)
    for count in range(1, max_evaluations):
        if given_up is not None:
            search.done = search.done | given_up()
        if count % CHECK_EVERY == 0 and bool(search.done.all()):
            break
        points = search.ask()
        search.tell(Point(points, *evaluate(points)))
    return search.best.x


class Point(NamedTuple):
    """Points (N, D) of N problems with their values (N,) and gradients (N, D)."""

    x: Tensor
    value: Tensor
    gradient: Tensor


class Bracket(NamedTuple):
    """The bracket [low, high] of step lengths of N line searches, each field (N,); slopes are along the direction.

    At `low` the decrease is sufficient (Armijo) and the slope still negative; at `high` the decrease is insufficient or
    the slope positive, so an acceptable step lies between them (section 3.5).
    """

    low: Tensor
    low_value: Tensor
    low_slope: Tensor
    high: Tensor
    high_value: Tensor
    high_slope: Tensor
    tries: Tensor

    @classmethod
    def new(cls, value: Tensor, slope: Tensor) -> Bracket:
        """A new search at step 0, where the functions have this value and slope."""
        zero, infinite = torch.zeros_like(value), torch.full_like(value, float("inf"))
        return cls(zero, value, slope, infinite, infinite, infinite, zero)

    def narrow(self, step: Tensor, value: Tensor, slope: Tensor, low_enough: Tensor) -> Bracket:
        """The bracket with the trial as its new lower or upper end."""
        as_low = self._replace(low=step, low_value=value, low_slope=slope, tries=self.tries + 1)
        as_high = self._replace(high=step, high_value=value, high_slope=slope, tries=self.tries + 1)
        return _where(low_enough & (slope < 0), as_low, as_high)

    def next_step(self) -> Tensor:
        """The next trial (N,): extrapolated while the bracket is open, else the minimum of a cubic through its ends."""
        width = self.high - self.low
        # The cubic with both ends' values and slopes (equation 3.59).
        d1 = self.low_slope + self.high_slope - 3 * (self.high_value - self.low_value) / width
        d2 = (d1.square() - self.low_slope * self.high_slope).clamp_min(0).sqrt()
        minimum = width - width * (self.high_slope + d2 - d1) / (self.high_slope - self.low_slope + 2 * d2)
        share = (minimum / width).clamp(_MARGIN, 1 - _MARGIN)
        inside = self.low + torch.where(torch.isfinite(share), share, 0.5) * width
        return torch.where(torch.isinf(self.high), self.low * _GROW, inside)


def _where(mask: Tensor, a: Fields, b: Fields) -> Fields:
    """The problems of `a` where the mask (N,) is set, else those of `b`."""
    return type(a)(*[where_rows(mask, *pair) for pair in zip(a, b, strict=True)])


class Curvature:
    """The last `memory` steps and gradient differences of N problems, counted per problem."""

    def __init__(self, like: Tensor, memory: int) -> None:
        num, size = like.shape
        self.memory, self._rows = memory, torch.arange(num, device=like.device)
        self._steps, self._differences = like.new_zeros(num, memory, size), like.new_zeros(num, memory, size)
        self._inverse_product = like.new_zeros(num, memory)  # 1 / (s . y)
        self._scale = like.new_ones(num)
        self._cursor, self.count = torch.zeros_like(self._rows), torch.zeros_like(self._rows)

    def add(self, mask: Tensor, step: Tensor, difference: Tensor) -> None:
        """Store a step (N, D) and the resulting gradient difference for the problems in `mask` (N,)."""
        product = (step * difference).sum(dim=1)
        valid = mask & (product > 1e-10 * step.norm(dim=1) * difference.norm(dim=1))
        new = {self._steps: step, self._differences: difference, self._inverse_product: 1 / product}
        for memory, row in new.items():
            memory[self._rows, self._cursor] = where_rows(valid, row, memory[self._rows, self._cursor])
        self._scale = torch.where(valid, product / difference.square().sum(dim=1), self._scale)
        self._cursor = (self._cursor + valid) % self.memory
        self.count = (self.count + valid).clamp_max(self.memory)

    def forget(self, mask: Tensor) -> None:
        """Clear the memory of the problems in `mask` (N,)."""
        self.count = torch.where(mask, 0, self.count)

    def descend(self, gradient: Tensor) -> Tensor:
        """The quasi-Newton direction (N, D) by the two-loop recursion (algorithm 7.4); -gradient without memory."""
        q, kept = -gradient, []
        for age in range(self.memory):
            slot = (self._cursor - 1 - age) % self.memory
            step, difference = self._steps[self._rows, slot], self._differences[self._rows, slot]
            inverse_product = torch.where(age < self.count, self._inverse_product[self._rows, slot], 0)
            alpha = inverse_product * (step * q).sum(dim=1)
            q = q - alpha[:, None] * difference
            kept.append((step, difference, inverse_product, alpha))
        q = q * torch.where(self.count > 0, self._scale, 1)[:, None]
        for step, difference, inverse_product, alpha in reversed(kept):
            beta = inverse_product * (difference * q).sum(dim=1)
            q = q + (alpha - beta)[:, None] * step
        return q


class QuasiNewton:
    """Ask-and-tell minimiser of N functions of D numbers: evaluate `ask()`, `tell` the result, repeat."""

    def __init__(self, start: Point, *, memory: int, first_step: float, max_tries: int, tolerance: float) -> None:
        self.here = self.best = start  # start of the current line search, and the best point it has seen
        self.curvature = Curvature(start.x, memory)
        self.first_step, self.max_tries, self.tolerance = first_step, max_tries, tolerance
        self.done = self._is_flat(start.gradient)
        self.direction, self.slope, self.step = self._aim(start.gradient)
        self.bracket = Bracket.new(start.value, self.slope)

    def ask(self) -> Tensor:
        """The points (N, D) to evaluate next; finished problems stay where they are."""
        return self.here.x + torch.where(self.done, 0, self.step)[:, None] * self.direction

    def tell(self, trial: Point) -> None:
        """Update the state with the evaluated points."""
        slope = (trial.gradient * self.direction).sum(dim=1)
        # The strong Wolfe conditions: sufficient decrease (Armijo) and a small enough slope.
        bound = self.here.value + _C1 * self.step * self.slope
        low_enough = torch.isfinite(trial.value) & (trial.value <= bound)
        accepted = low_enough & (slope.abs() <= -_C2 * self.slope)
        self.best = _where(low_enough & (trial.value < self.best.value) & ~self.done, trial, self.best)
        self.bracket = self.bracket.narrow(self.step, trial.value, slope, low_enough)
        # A search ends with an accepted step, or with the best one seen when its tries are used up.
        ended = (accepted | (self.bracket.tries >= self.max_tries)) & ~self.done
        arrived = _where(accepted, trial, self.best)
        stuck = ended & (arrived.value >= self.here.value)
        moved = ended & ~stuck
        self.done = self.done | (stuck & (self.curvature.count == 0))  # even steepest descent does not decrease
        self.curvature.forget(stuck)
        self.curvature.add(moved, arrived.x - self.here.x, arrived.gradient - self.here.gradient)
        self.here = _where(moved, arrived, self.here)
        self.done = self.done | self._is_flat(self.here.gradient)
        # The next search begins where the last one ended.
        direction, slope, step = self._aim(self.here.gradient)
        self.direction = where_rows(ended, direction, self.direction)
        self.slope = torch.where(ended, slope, self.slope)
        self.step = torch.where(ended, step, self.bracket.next_step())
        self.bracket = _where(ended, Bracket.new(self.here.value, self.slope), self.bracket)
        self.best = _where(ended, self.here, self.best)

    def _aim(self, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Direction (N, D), slope along it (N,), and the first step length to try (N,)."""
        direction = self.curvature.descend(gradient)
        slope = (direction * gradient).sum(dim=1)
        downhill = torch.isfinite(slope) & (slope < 0)
        self.curvature.forget(~downhill)
        direction = where_rows(downhill, direction, -gradient)
        slope = torch.where(downhill, slope, -gradient.square().sum(dim=1))
        cautious = self.first_step / gradient.square().mean(dim=1).sqrt().clamp_min(1e-30)
        return direction, slope, torch.where(self.curvature.count > 0, torch.ones_like(slope), cautious)

    def _is_flat(self, gradient: Tensor) -> Tensor:
        return gradient.abs().amax(dim=1) <= self.tolerance
