"""The optimisation problem of an inverter: parameters of N images, the loss of each, and the best ones found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from wplus.core.random import normal, rng
from wplus.core.runtime import now
from wplus.errors import check_choice, check_number
from wplus.inversion.init import initial_latents, prior
from wplus.inversion.objective import Objective, all_loss_weights, objectives, renormalize, synthesize
from wplus.inversion.result import EarlyStop, Inversion, Record, where_rows
from wplus.inversion.task import InversionTask, Progress


class Problem:
    """The parameters of N images, [variables (N, ...), *noise maps (N, 1, r, r)], and the loss of each.

    A minimiser is a function that takes the problem, starts from `params`, calls `evaluate`, and returns its final
    parameters; `solve` calls it for every start. Arguments as in `wplus.inversion.optimize.optimize`.
    """

    def __init__(
        self, task: InversionTask, *, num_steps: int, loss_weights: Mapping[str, float], init: str,
        num_candidates: int, restarts: int, early_stop: Mapping[str, float] | None, noise: str, return_best: bool,
    ) -> None:  # fmt: skip
        check_number("num_steps", num_steps, lowest=1, whole=True)
        check_number("restarts", restarts, lowest=0, whole=True)
        check_choice("noise", noise, ("fixed", "optimize"))
        self._began, self._first_task = now(task.device), task
        self.task, self.num_steps, self.restarts, self.return_best = task, num_steps, restarts, return_best
        self._noise, self._early_stop_rule = noise, early_stop
        self.weights = all_loss_weights(task, loss_weights)
        self._chunks = objectives(task, self.weights)
        self.rows, self.objective = [rows for rows, _ in self._chunks], self._chunks[0][1]
        self.prior = prior(task.generator, task.latent_space, task.labels, len(task.images))
        self._init, self._num_candidates = init, num_candidates
        self._start(attempt=0)

    def _start(self, attempt: int) -> None:
        """Start from `init`, or on further attempts from a random sample with its own randomness."""
        if attempt:
            seed = rng(self._first_task.seed, f"restart {attempt}").initial_seed()
            self.task = replace(self._first_task, seed=seed, start=None)
            self._init = "seed"
        task, rule = self.task, self._early_stop_rule
        self._early_stop = None if rule is None else EarlyStop(rule, task.images[:, 0, 0, 0])
        latents = initial_latents(
            task, self.prior, init=self._init, num_candidates=self._num_candidates, weights=self.weights
        )
        # White noise for every layer of every image, like the start of NVlabs' projector.
        shapes = [] if self._noise == "fixed" else task.generator.synthesis.noise_shapes
        noise = [
            normal(task.seed, task.names, f"noise {i}", (1, *shape), task.device) for i, shape in enumerate(shapes)
        ]
        self.params = self.renormalize([task.to_variables(latents), *noise])
        for rows, objective in self._chunks:
            objective.anchor = self.params[0][rows]
        self._steps_before = attempt * self.num_steps
        self.record = Record(self.num_steps, len(latents), self.params)

    def evaluate(self, params: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Loss (N,) of params and its gradients; the evaluation is recorded and passed to the callback."""
        found = [self._evaluate_chunk(*chunk, params) for chunk in self._chunks]
        all_terms, all_gradients, all_images = zip(*found, strict=True)
        terms = {name: self.task.join([one[name] for one in all_terms]) for name in all_terms[0]}
        gradients = [self.task.join(parts) for parts in zip(*all_gradients, strict=True)]
        self.record.add(terms, self.renormalize(params))
        if self._early_stop is not None:
            self.record.freeze(self._early_stop.done(terms["loss"]))
        if self.task.callback is not None:
            images, num_steps = self.task.join(all_images), self.num_steps * (1 + self.restarts)
            self.task.callback(Progress(self._steps_before + self.record.step, num_steps, terms["loss"], images))
        return terms["loss"], gradients

    @torch.enable_grad()
    def _evaluate_chunk(
        self, rows: Tensor, objective: Objective, params: Sequence[Tensor]
    ) -> tuple[dict[str, Tensor], Sequence[Tensor], Tensor]:
        """Terms, gradients and images of a chunk."""
        mine = [param.detach()[rows].requires_grad_() for param in params]
        normalized = renormalize(mine, self.task.latent_space)
        images = synthesize(objective.task, normalized)
        terms = objective.terms(images, normalized)
        gradients = torch.autograd.grad(terms["loss"].sum(), mine)
        return {name: term.detach() for name, term in terms.items()}, gradients, images.detach()

    @torch.no_grad()
    def renormalize(self, params: Sequence[Tensor]) -> list[Tensor]:
        """The params as the generator sees them, see `objective.renormalize`."""
        chunks = [renormalize([param[rows] for param in params], self.task.latent_space) for rows in self.rows]
        return [self.task.join(parts) for parts in zip(*chunks, strict=True)]

    def solve(self, minimise: Callable[[Problem], Sequence[Tensor]]) -> Inversion:
        """The inversion with the lowest loss of all attempts, image by image."""
        best = self._attempt(minimise)
        for attempt in range(1, 1 + self.restarts):
            self._start(attempt)
            other = self._attempt(minimise)
            best = other.where(other.loss < best.loss, best)
        num = len(self.task.images)
        seconds = torch.full((num,), (now(self.task.device) - self._began) / num)
        history = {name: rows.cpu() for name, rows in best.history.items()}
        latents = self.task.to_latents(best.params[0])
        return Inversion(latents, best.images, best.params[1:] or None, history, seconds)

    @torch.no_grad()
    def _attempt(self, minimise: Callable[[Problem], Sequence[Tensor]]) -> _Attempt:
        """The minimiser's final parameters, or with `return_best` the best ones ever evaluated."""
        params = self.renormalize(minimise(self))
        images, loss = self._look(params)
        if self.return_best:
            self.record.consider(loss, params)
            params, loss = self.record.best, self.record.lowest
            images, _ = self._look(params)
        return _Attempt(loss, params, images, self.record.finished_history())

    def _look(self, params: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Images and loss (N,) of renormalized params."""
        images, losses = [], []
        for rows, objective in self._chunks:
            mine = [param[rows] for param in params]
            images.append(synthesize(objective.task, mine))
            losses.append(objective.terms(images[-1], mine)["loss"])
        return self.task.join(images), self.task.join(losses)


class _Attempt(NamedTuple):
    """The result of one start, per image."""

    loss: Tensor  # (N,)
    params: list[Tensor]
    images: Tensor
    history: dict[str, Tensor]  # (steps, N)

    def where(self, mask: Tensor, other: _Attempt) -> _Attempt:
        """`self` where the mask (N,) is set, else `other`."""
        return _Attempt(
            where_rows(mask, self.loss, other.loss),
            [where_rows(mask, *pair) for pair in zip(self.params, other.params, strict=True)],
            where_rows(mask, self.images, other.images),
            {name: torch.where(mask, rows, other.history[name]) for name, rows in self.history.items()},
        )
