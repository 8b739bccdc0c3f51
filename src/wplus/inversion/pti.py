"""Pivotal tuning: find a latent, then tune the generator's weights for that one image (Roich et al. 2021, 2106.05744).

Each image is saved as its latent and a low-rank change of the weights (`weight_delta`); the latent alone gives the
untuned reconstruction. Only the synthesis network is tuned: the pivot lies after the mapping network. Images of other
latents are kept in place by a locality loss, and how far they moved is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from wplus.checkpoint import fingerprint
from wplus.core.random import rng
from wplus.core.runtime import float32_convolutions, now
from wplus.errors import UserError, check_number
from wplus.inversion.locality import LOCALITY_WEIGHTS, Locality, locality_scores
from wplus.inversion.objective import IMAGE_WEIGHTS, Objective, all_loss_weights
from wplus.inversion.optimize import optimize
from wplus.inversion.result import Inversion, Record
from wplus.inversion.task import InversionTask, Inverter, Progress, check_inverter, for_spaces
from wplus.latents.space import LatentSpace
from wplus.latents.weight_delta import Parts, WeightDelta, changed, code_digest, no_change

_PREFIX = "synthesis."


@for_spaces(lambda space, options: _check_space(space, options.get("pivot", optimize)))
@float32_convolutions()
def pti(
    task: InversionTask,
    *,
    pivot: Inverter = optimize,  # inverter that finds the latents, with its options bound
    num_steps: int = 350,  # updates of the weights, at most
    lr: float = 1e-3,  # of Adam; constant
    rank: int = 4,  # rank of the change of each weight matrix, see `no_change`
    loss_weights: Mapping[str, float] = IMAGE_WEIGHTS,  # of the image terms
    stop_at: float | None = 0.06,  # perceptual distance at which tuning stops; null: all steps
    locality_interval: int | None = 4,  # the locality loss is applied every so many steps; null: never
    locality_weights: Mapping[str, float] = LOCALITY_WEIGHTS,  # of the terms of the locality loss
    locality_alpha: float = 30.0,  # distance of its latents from the pivot, over all layers together
    locality_psi: float = 0.5,  # truncation of the random samples towards which these latents lie
    num_others: int = 16,  # samples used to measure how far other images moved, locality_* in the table; 0: none
    others_psi: float = 0.7,  # their truncation
) -> Inversion:
    """Images -> latents and, in `deltas`, a `WeightDelta` for each. Images are rendered from latent and delta together.

    Each image gets its own generator, so images are tuned one after the other. The mean distances by which other images
    moved are the scores `locality_l2` and `locality_` plus the name of the perceptual loss.
    """
    check_number("num_steps", num_steps, lowest=1, whole=True)
    check_number("rank", rank, lowest=1, whole=True)
    if not lr > 0:
        raise UserError(f"lr must be above 0, got {lr}.")
    _check_space(task.latent_space, pivot)
    ws_task = replace(task, space="w+", labels=None, start=None)
    weights = all_loss_weights(ws_task, loss_weights)
    if stop_at is not None and not weights["perceptual"]:
        raise UserError(f"stop_at must be null without a weight of the perceptual term, got {stop_at}.")
    locality = None
    if locality_interval is not None:
        locality = Locality(ws_task, locality_weights, locality_alpha, locality_psi, locality_interval)
    objectives = [Objective(ws_task.select(torch.tensor([row])), weights) for row in range(len(task.images))]
    watch = _Watch(task, num_steps)
    found = pivot(replace(task, callback=watch.pivot if task.callback else None))
    watch.images = found.images.clone()
    tuned, seconds = [], []
    for row, objective in enumerate(objectives):
        began, mine = now(task.device), torch.tensor([row])
        with torch.no_grad():  # one by one: the mapping's rounding depends on the batch
            ws = task.select(mine).to_ws(found.latents[mine])
        noise = None if found.noise is None else [layer[mine] for layer in found.noise]
        tuner = Tuner(objective, ws, noise, locality=locality)
        tuned.append(tuner.run(num_steps, lr=lr, rank=rank, stop_at=stop_at, tell=watch.tuning(row)))
        seconds.append(now(task.device) - began)
    ours = fingerprint(task.generator)
    deltas = [
        WeightDelta(one.changes, generator=ours, latent=code_digest(latent), metadata={"image": name})
        for one, latent, name in zip(tuned, found.latents, task.names, strict=True)
    ]
    return replace(
        found,
        images=torch.cat([one.image for one in tuned]),
        history=_joined(found.history, [one.history for one in tuned]),
        seconds=found.seconds + torch.tensor(seconds),
        deltas=deltas,
        scores=locality_scores(ws_task, deltas, num=num_others, psi=others_psi),
    )


def _check_space(space: LatentSpace, pivot: Inverter) -> None:
    check_inverter(pivot, space)
    if not space.has_ws:
        raise UserError(f"inverter=pti needs w+, to which {space} cannot be mapped: choose another space.")


class Tuned(NamedTuple):
    """Result of tuning for one image: changes by parameter, the image (1, C, R, R), terms (steps,) on the CPU."""

    changes: dict[str, Parts]
    image: Tensor
    history: dict[str, Tensor]


class Tuner:
    """Tunes the generator for the single image of `objective`, with its latent ws (1, num_ws, w_dim) and noise fixed.

    Without noise maps the stored noise is used; `locality` keeps other images in place.
    """

    def __init__(
        self, objective: Objective, ws: Tensor, noise: Sequence[Tensor] | None, *, locality: Locality | None
    ) -> None:
        self._objective, self._task, self._ws, self._noise = objective, objective.task, ws, noise
        self._network, self._locality = objective.task.generator.synthesis, locality
        self._frozen = {key: parameter.detach() for key, parameter in self._network.named_parameters()}

    @torch.enable_grad()
    def run(
        self, num_steps: int, *, lr: float, rank: int, stop_at: float | None,
        tell: Callable[[int, Tensor, Tensor], object],
    ) -> Tuned:  # fmt: skip
        """Run Adam on the changes; returns the first ones to reach the threshold, otherwise those of the lowest loss.

        `tell` is called with the number of each step, from 1, the loss (1,) and the image.
        """
        draws = rng(self._task.seed, self._task.names[0], "factors")
        changes = {key: no_change(parameter, rank, draws) for key, parameter in self._frozen.items()}
        params = [part.requires_grad_() for parts in changes.values() for part in parts]
        adam, record = torch.optim.Adam(params, lr=lr), Record(num_steps, 1, params)
        # Step -> another latent (1, num_ws, w_dim) whose image must not change.
        steps = [] if self._locality is None else range(0, num_steps, self._locality.interval)
        points = [] if self._locality is None else self._locality.points(self._task, self._ws, len(steps)).split(1)
        held = dict(zip(steps, points, strict=True))

        def keep(terms: Mapping[str, Tensor]) -> None:
            """Keep params of the lowest loss so far; the first ones to reach the threshold are kept and end the run."""
            record.consider(terms["loss"].detach(), params)
            if stop_at is not None:
                reached = terms["perceptual"].detach() <= stop_at
                record.consider(torch.where(reached, -torch.inf, torch.inf), params)  # whatever its loss
                record.freeze(reached)

        for step in range(num_steps):
            terms, image = self._evaluate(changes, held.get(step))
            record.add(terms, params)
            keep(terms)
            tell(step + 1, terms["loss"].detach(), image)
            if record.is_over():
                break
            loss = terms["loss"]
            if self._locality is not None and "locality" in terms:
                loss = loss + self._locality.interval * terms["locality"]
            adam.zero_grad()
            loss.sum().backward()
            adam.step()
        else:
            keep(self._evaluate(changes, None)[0])
        best = iter(record.best)
        return self._tuned({key: tuple(next(best) for _ in parts) for key, parts in changes.items()}, record)

    @torch.no_grad()
    def _tuned(self, changes: Mapping[str, Parts], record: Record) -> Tuned:
        image = self._synthesize(changes, self._ws)
        named = {_PREFIX + key: parts for key, parts in changes.items()}
        return Tuned(named, image, {name: rows[:, 0].cpu() for name, rows in record.finished_history().items()})

    def _evaluate(self, changes: Mapping[str, Parts], other: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """Loss terms of the image, including "locality" if another latent is given, and the image."""
        images = self._synthesize(changes, self._ws if other is None else torch.cat([self._ws, other]))
        terms = self._objective.terms(images[:1], [self._ws])
        if self._locality is not None and other is not None:
            terms["locality"] = self._locality.distance(images[1:], other)
        return terms, images[:1].detach()

    def _synthesize(self, changes: Mapping[str, Parts], ws: Tensor) -> Tensor:
        """Images of the tuned network: the first, of the pivot, with its own noise, others with the stored noise."""
        parameters = {key: changed(self._frozen[key], parts) for key, parts in changes.items()}
        if self._noise is None:
            return functional_call(self._network, parameters, (ws,), {"noise_mode": "const"})
        others = [stored.expand(len(ws) - 1, -1, -1, -1) for stored in self._network.const_noise()]
        noise = [torch.cat(pair) for pair in zip(self._noise, others, strict=True)]
        return functional_call(self._network, parameters, (ws,), {"noise": noise})


def _joined(pivot: Mapping[str, Tensor], tuning: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """History of the pivot (steps, N), followed by that of the tuning; NaN if one of them lacks a term."""
    tuned = {name: torch.stack([one[name] for one in tuning], dim=1) for name in tuning[0]}
    lengths = [len(next(iter(terms.values()), ())) for terms in (pivot, tuned)]
    absent = [torch.full((length, len(tuning)), float("nan")) for length in lengths]
    names = [*tuned, *(name for name in pivot if name not in tuned)]
    return {name: torch.cat([pivot.get(name, absent[0]), tuned.get(name, absent[1])]) for name in names}


class _Watch:
    """Reports both phases to the caller as one: a step is the evaluation of one image, so a pivot step counts as N."""

    def __init__(self, task: InversionTask, tuning_steps: int) -> None:
        self._callback, self._num, self._tuning_steps = task.callback, len(task.images), tuning_steps
        self._pivot_steps, self._loss = 0, torch.zeros(self._num, device=task.device)
        self.images = task.images

    def pivot(self, progress: Progress) -> None:
        self._pivot_steps, self._loss = progress.num_steps, progress.loss.clone()
        self._tell(progress.step * self._num, progress.loss, progress.images)

    def tuning(self, row: int) -> Callable[[int, Tensor, Tensor], None]:
        """The callback for the steps of one image."""

        def heard(step: int, loss: Tensor, image: Tensor) -> None:
            self._loss[row], self.images[row] = loss[0], image[0]
            done = self._pivot_steps * self._num + row * self._tuning_steps + step
            self._tell(done, self._loss.clone(), self.images.clone())

        return heard

    def _tell(self, done: int, loss: Tensor, images: Tensor) -> None:
        if self._callback is not None:
            num_steps = (self._pivot_steps + self._tuning_steps) * self._num
            self._callback(Progress(done, num_steps, loss, images))
