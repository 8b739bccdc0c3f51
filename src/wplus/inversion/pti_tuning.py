"""The tuning of a generator for one image, its code fixed (Roich et al. 2021, https://arxiv.org/abs/2106.05744).

Only the synthesis network is tuned: the pivot stands after the mapping network, which therefore does not take part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from wplus.core.random import rng
from wplus.errors import UserError
from wplus.inversion.objective import Objective
from wplus.inversion.pti_locality import Locality, held_points
from wplus.latents.weight_delta import Parts, changed, no_change

_PREFIX = "synthesis."
_CHECK_EVERY = 25  # steps after which the device is asked whether the threshold was reached; changes no result


@dataclass(frozen=True)
class Schedule:
    """How an image is tuned.

    Attributes
        steps    updates at most
        lr       learning rate of Adam, constant
        rank     of the change of a weight matrix, see `weight_delta.no_change`
        stop_at  perceptual distance that is good enough, or None: all steps are made
    """

    steps: int
    lr: float
    rank: int
    stop_at: float | None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rank < 1 or not self.lr > 0:
            raise UserError(f"steps={self.steps}, rank={self.rank}, lr={self.lr}: at least 1, 1 and above 0.")


@dataclass(frozen=True)
class Tuned:
    """What tuning found for one image: changes by parameter, the picture (1, C, R, R), terms (steps,) on the CPU."""

    changes: dict[str, Parts]
    image: Tensor
    history: dict[str, Tensor]


class Tuner:
    """One image and its pivot.

    objective   the generator and the loss of this one image
    ws          (1, num_ws, w_dim), the pivot
    noise       (1, 1, r, r) per noise layer, or None for the stored noise
    locality    what of other pictures is held, or None
    seed, name  where all randomness comes from
    """

    def __init__(
        self,
        objective: Objective,
        *,
        ws: Tensor,
        noise: Sequence[Tensor] | None,
        locality: Locality | None,
        seed: int,
        name: str,
    ) -> None:
        self._objective, self._ws, self._noise, self._locality = objective, ws, noise, locality
        self._seed, self._name = seed, name
        self._network = objective.generator.synthesis
        self._frozen = {key: parameter.detach() for key, parameter in self._network.named_parameters()}

    @torch.enable_grad()
    def run(self, schedule: Schedule, heard: Callable[[int, Tensor, Tensor], object]) -> Tuned:
        """Adam on the changes. Kept is what first reached the threshold, or else what had the lowest loss.

        `heard` gets the number of each step, from 1, the loss (1,) and the picture.
        """
        draws = rng(self._seed, self._name, "factors")
        changes = {key: no_change(parameter, schedule.rank, draws) for key, parameter in self._frozen.items()}
        unknowns = [part.requires_grad_() for parts in changes.values() for part in parts]
        adam = torch.optim.Adam(unknowns, lr=schedule.lr)
        kept, held = _Kept(unknowns, schedule.stop_at), self._held(schedule.steps)
        for step in range(schedule.steps):
            terms, image = self._evaluate(changes, held.get(step))
            kept.note(terms)
            kept.consider(terms, unknowns)
            heard(step + 1, terms["loss"].detach(), image)
            if (step + 1) % _CHECK_EVERY == 0 and bool(kept.done):
                break
            adam.zero_grad()
            self._total(terms).backward()
            adam.step()
        else:
            kept.consider(self._evaluate(changes, None)[0], unknowns)
        best = iter(kept.best)
        changes = {key: tuple(next(best) for _ in parts) for key, parts in changes.items()}
        with torch.no_grad():
            image = self._pictures(changes, self._ws)
        named = {_PREFIX + key: parts for key, parts in changes.items()}
        return Tuned(named, image, kept.finished_history(schedule.steps))

    def _held(self, steps: int) -> dict[int, Tensor]:
        """Step -> another code (1, num_ws, w_dim) whose picture is to stay."""
        if self._locality is None:
            return {}
        taking_part = range(0, steps, self._locality.interval)
        points = held_points(
            self._objective.generator, self._ws, self._locality, num=len(taking_part), seed=self._seed, name=self._name
        )
        return dict(zip(taking_part, points.split(1), strict=True))

    def _evaluate(self, changes: Mapping[str, Parts], other: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """Terms of the image, with "locality" where another code is given, and its picture."""
        images = self._pictures(changes, self._ws if other is None else torch.cat([self._ws, other]))
        terms = self._objective.terms(images[:1], [self._ws])
        if other is not None:
            terms["locality"] = self._locality.distance(self._objective.generator, images[1:], other)
        return terms, images[:1].detach()

    def _pictures(self, changes: Mapping[str, Parts], ws: Tensor) -> Tensor:
        """Pictures of the tuned network: the first, of the pivot, with its own noise, others with the stored one."""
        parameters = {key: changed(self._frozen[key], parts) for key, parts in changes.items()}
        if self._noise is None:
            return functional_call(self._network, parameters, (ws,), {"noise_mode": "const"})
        others = [stored.expand(len(ws) - 1, -1, -1, -1) for stored in self._network.const_noise()]
        noise = [torch.cat(pair) for pair in zip(self._noise, others, strict=True)]
        return functional_call(self._network, parameters, (ws,), {"noise": noise})

    def _total(self, terms: Mapping[str, Tensor]) -> Tensor:
        if "locality" not in terms:
            return terms["loss"].sum()
        return (terms["loss"] + self._locality.interval * terms["locality"]).sum()


class _Kept:
    """The best unknowns so far and the terms of every step, without waiting for the device."""

    def __init__(self, unknowns: Sequence[Tensor], stop_at: float | None) -> None:
        device = unknowns[0].device
        self.best = [unknown.detach().clone() for unknown in unknowns]
        self.done = torch.tensor(False, device=device)
        self._lowest = torch.tensor(float("inf"), device=device)
        self._stop_at = stop_at
        self._history: list[dict[str, Tensor]] = []

    @torch.no_grad()
    def note(self, terms: Mapping[str, Tensor]) -> None:
        """Add the terms of a step to the history: the last ones again where one is missing, or when tuning was done."""
        now = {name: term[0].detach() for name, term in terms.items()}
        last = self._history[-1] if self._history else now
        row = {name: torch.where(self.done, last[name], now.get(name, last[name])) for name in last}
        self._history.append(row)

    @torch.no_grad()
    def consider(self, terms: Mapping[str, Tensor], unknowns: Sequence[Tensor]) -> None:
        """Keep the unknowns if no loss was lower, or if they are the first to reach the threshold: the end."""
        loss = terms["loss"][0]
        reached = torch.zeros_like(self.done) if self._stop_at is None else terms["perceptual"][0] <= self._stop_at
        better = ~self.done & ((loss < self._lowest) | reached)
        self._lowest = torch.where(better, loss, self._lowest)
        for best, unknown in zip(self.best, unknowns, strict=True):
            best.copy_(torch.where(better, unknown, best))
        self.done = self.done | reached

    def finished_history(self, steps: int) -> dict[str, Tensor]:
        """Term -> (steps,) on the CPU; steps that were not needed repeat the last one."""
        rows = self._history + self._history[-1:] * (steps - len(self._history))
        return {name: torch.stack([row[name] for row in rows]).cpu() for name in self._history[0]}
