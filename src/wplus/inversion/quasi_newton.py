"""L-BFGS (Liu & Nocedal 1989; Nocedal & Wright, algorithm 7.5) for many independent problems at once.

The usual implementations build one curvature model for a whole batch, which ties its members together. Here each
problem has its own memory, step length and stopping rule. A round evaluates all of them once, each at the point that
its own line search asks for, and no value is read back from the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from wplus.inversion.line_search import Bracket, judge, narrow, next_step
from wplus.inversion.result import ROUNDS_BETWEEN_CHECKS


class Point(NamedTuple):
    """Points of N problems with their values and gradients."""

    x: Tensor  # (N, D)
    value: Tensor  # (N,)
    gradient: Tensor  # (N, D)

    def where(self, mask: Tensor, other: Point) -> Point:
        """`self` where the mask (N,) is set, else `other`."""
        wide = mask[:, None]
        return Point(
            torch.where(wide, self.x, other.x),
            torch.where(mask, self.value, other.value),
            torch.where(wide, self.gradient, other.gradient),
        )


class Curvature:
    """The last `memory` steps and gradient differences of N problems, each with its own count."""

    def __init__(self, like: Tensor, memory: int) -> None:
        num, size = like.shape
        self.memory, self._rows = memory, torch.arange(num, device=like.device)
        self._steps, self._differences = like.new_zeros(num, memory, size), like.new_zeros(num, memory, size)
        self._inverse_product = like.new_zeros(num, memory)  # 1 / (s . y)
        self._scale = like.new_ones(num)
        self._cursor, self.count = torch.zeros_like(self._rows), torch.zeros_like(self._rows)

    def add(self, mask: Tensor, step: Tensor, difference: Tensor) -> None:
        """Remember a step (N, D) and what it did to the gradient, for the problems in `mask` (N,)."""
        product = (step * difference).sum(dim=1)
        valid = mask & (product > 1e-10 * step.norm(dim=1) * difference.norm(dim=1))
        for memory, new in (
            (self._steps, step),
            (self._differences, difference),
            (self._inverse_product, 1 / product),
        ):
            old = memory[self._rows, self._cursor]
            memory[self._rows, self._cursor] = torch.where(valid.view(-1, *[1] * (new.ndim - 1)), new, old)
        self._scale = torch.where(valid, product / difference.square().sum(dim=1), self._scale)
        self._cursor = (self._cursor + valid) % self.memory
        self.count = (self.count + valid).clamp_max(self.memory)

    def forget(self, mask: Tensor) -> None:
        """Start afresh for the problems in `mask` (N,)."""
        self.count = torch.where(mask, 0, self.count)

    def descend(self, gradient: Tensor) -> Tensor:
        """The quasi-Newton direction (N, D), by the two-loop recursion; minus the gradient where memory is empty."""
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
    """Ask-and-tell minimiser of N functions of D numbers: evaluate `ask()`, `tell` the result, repeat.

    Arguments: the start with its values and gradients, and those of `minimise`.
    """

    def __init__(
        self, start: Point, *, memory: int, first_step: float, max_tries: int, tolerance: float, c1: float, c2: float
    ) -> None:
        self.here = self.best = start  # where the running line search began, and the best point it has seen
        self.curvature = Curvature(start.x, memory)
        self.first_step, self.max_tries, self.tolerance, self.c1, self.c2 = first_step, max_tries, tolerance, c1, c2
        self.done = self._is_flat(start.gradient)
        self.direction, self.slope, self.step = self._aim(start.gradient)
        self.bracket = Bracket.new(start.value, self.slope)

    def ask(self) -> Tensor:
        """The points (N, D) to evaluate next; those that are done stay where they are."""
        return self.here.x + torch.where(self.done, 0, self.step)[:, None] * self.direction

    def tell(self, trial: Point) -> None:
        """Take the evaluated points into account."""
        slope = (trial.gradient * self.direction).sum(dim=1)
        low_enough, accepted = judge(
            self.step, trial.value, slope,
            start_value=self.here.value, start_slope=self.slope, c1=self.c1, c2=self.c2,
        )  # fmt: skip
        self.best = trial.where(low_enough & (trial.value < self.best.value) & ~self.done, self.best)
        self.bracket = narrow(self.bracket, self.step, trial.value, slope, low_enough)
        # A search ends with a step that is accepted, or with the best one it saw when its tries are spent.
        ended = (accepted | (self.bracket.tries >= self.max_tries)) & ~self.done
        self._arrive(ended, trial.where(accepted, self.best))
        self._restart_search(ended)

    def _arrive(self, ended: Tensor, arrived: Point) -> None:
        stuck = ended & (arrived.value >= self.here.value)
        moved = ended & ~stuck
        self.done = self.done | (stuck & (self.curvature.count == 0))  # not even the steepest way leads down
        self.curvature.forget(stuck)
        self.curvature.add(moved, arrived.x - self.here.x, arrived.gradient - self.here.gradient)
        self.here = arrived.where(moved, self.here)
        self.done = self.done | self._is_flat(self.here.gradient)

    def _restart_search(self, ended: Tensor) -> None:
        direction, slope, step = self._aim(self.here.gradient)
        self.direction = torch.where(ended[:, None], direction, self.direction)
        self.slope = torch.where(ended, slope, self.slope)
        self.step = torch.where(ended, step, next_step(self.bracket))
        self.bracket = Bracket.new(self.here.value, self.slope).where(ended, self.bracket)
        self.best = self.here.where(ended, self.best)

    def _aim(self, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Direction (N, D), slope along it (N,), and the first step length to try (N,)."""
        direction = self.curvature.descend(gradient)
        slope = (direction * gradient).sum(dim=1)
        downhill = torch.isfinite(slope) & (slope < 0)
        self.curvature.forget(~downhill)
        direction = torch.where(downhill[:, None], direction, -gradient)
        slope = torch.where(downhill, slope, -gradient.square().sum(dim=1))
        cautious = self.first_step / gradient.square().mean(dim=1).sqrt().clamp_min(1e-30)
        return direction, slope, torch.where(self.curvature.count > 0, torch.ones_like(slope), cautious)

    def _is_flat(self, gradient: Tensor) -> Tensor:
        return gradient.abs().amax(dim=1) <= self.tolerance


@torch.no_grad()
def minimise(
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    *,
    max_evaluations: int,
    memory: int = 10,
    first_step: float = 0.1,
    max_tries: int = 10,
    tolerance: float = 1e-7,
    c1: float = 1e-4,
    c2: float = 0.9,
    given_up: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Minimise N functions of D numbers each, independently: start x (N, D) -> the best points found (N, D).

    evaluate         points (N, D) -> values (N,) and gradients (N, D)
    max_evaluations  calls of `evaluate`; fewer when all problems are done
    memory           pairs that the curvature model is built from
    first_step       root mean square, per number, of the very first step and of a restart
    max_tries        evaluations per line search
    tolerance        a problem is done when no number of its gradient is larger
    c1, c2           constants of the strong Wolfe conditions
    given_up         asked after every evaluation: a mask (N,) of problems to leave where they are
    """
    search = QuasiNewton(
        Point(x, *evaluate(x)), memory=memory, first_step=first_step, max_tries=max_tries, tolerance=tolerance, c1=c1,
        c2=c2,
    )  # fmt: skip
    for count in range(1, max_evaluations):
        if given_up is not None:
            search.done = search.done | given_up()
        if count % ROUNDS_BETWEEN_CHECKS == 0 and bool(search.done.all()):
            break
        points = search.ask()
        search.tell(Point(points, *evaluate(points)))
    return search.best.x
