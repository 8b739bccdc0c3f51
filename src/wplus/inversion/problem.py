"""An inversion by optimisation without its minimiser: checked inputs, starting points, record, and the final result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wplus.core.batching import chunk_rows, resolve_chunk_size
from wplus.core.random import normal, rng
from wplus.core.runtime import now
from wplus.errors import UserError
from wplus.inversion.basis import Basis, gradient_axes
from wplus.inversion.init import prior, start_codes
from wplus.inversion.objective import ON_SPHERE, Objective, weights_by_name
from wplus.inversion.result import Callback, EarlyStop, Inversion, Progress, Record
from wplus.latents.latent import Space
from wplus.latents.w_stats import Whitened
from wplus.losses.image_pair import ImageDistance
from wplus.losses.perceptual import PerceptualDistance

NOISES = ("fixed", "optimize")
KEEPS = ("best", "last")


class Problem:
    """The unknowns of N images and the loss of each, as a minimiser needs them.

    The images are evaluated in chunks of exactly `lanes`, the last one filled up with copies, so that an image's bits
    do not depend on the batch (see `lanes`). Memory depends on `lanes`, not on N.

    Arguments as in `wplus.inversion.optimize.optimize`. A minimiser is a function that takes the problem, evaluates
    `unknowns`, or others like them, with `evaluate`, and returns where it ended; `solve` calls it for every start.
    """

    def __init__(
        self,
        generator: Any,
        targets: Tensor,
        *,
        space: Space,
        perceptual: PerceptualDistance | None,
        seed: int,
        names: Sequence[str] | None,
        labels: Tensor | None,
        callback: Callback | None,
        encoder: Any,
        masks: Tensor | None,
        losses: Mapping[str, ImageDistance] | None,
        num_steps: int,
        weights: Mapping[str, float] | None,
        start: str,
        num_candidates: int,
        restarts: int,
        early_stop: Mapping[str, float] | None,
        noise: str,
        keep: str,
        lanes: int | None,
    ) -> None:
        self.device = targets.device
        self._began = now(self.device)
        _check_choices(num_steps, restarts, noise=(noise, NOISES), keep=(keep, KEEPS))
        self.names = [str(index) for index in range(len(targets))] if names is None else list(names)
        self.num_steps, self.restarts, self.keep, self.callback = num_steps, restarts, keep, callback
        self.generator, self._seed, self._noise, self._early_stop = generator, seed, noise, early_stop
        self._start = {"start": start, "num_candidates": num_candidates, "encoder": encoder}
        self._lanes = resolve_chunk_size(lanes, generator.resolution, self.device)
        labels, masks = _on(self.device, labels), _on(self.device, masks)
        options = {"space": space, "perceptual": perceptual, "losses": losses}
        options["weights"] = weights_by_name(weights, losses or ())
        if options["weights"]["prior"] > 0 and space not in ON_SPHERE:
            options["whitened"] = Whitened.of(generator)
        self._options = options
        self._whole = Objective(generator, targets, labels=labels, masks=masks, **options)
        self.prior = prior(generator, space, labels, len(targets))
        self._chunks = []
        for rows in chunk_rows(len(targets), self._lanes, self.device):
            own = {"labels": _rows(labels, rows), "masks": _rows(masks, rows)}
            self._chunks.append(_Chunk(rows, Objective(generator, targets[rows], **own, **options)))
        self._open(attempt=0)

    def _open(self, attempt: int) -> None:
        """Begin from `start`, or for a further attempt from a random sample, with randomness of its own."""
        self.seed = rng(self._seed, f"restart {attempt}").initial_seed() if attempt else self._seed
        chosen = {**self._start, **({"start": "seed"} if attempt else {})}
        codes = start_codes(
            self._whole, self.prior, seed=self.seed, names=self.names, lanes=self._lanes, **chosen
        )  # fmt: skip
        self.unknowns = self.settle([codes, *self._start_noise()])
        for each in self._chunks:
            each.objective.anchor = self.unknowns[0][each.rows]
        self._steps_before = attempt * self.num_steps
        self.record = Record(self.num_steps, self.unknowns)
        self.early_stop = EarlyStop(self._early_stop, len(self.names), self.device)

    def _start_noise(self) -> list[Tensor]:
        """White noise for every layer of every image, as NVlabs' projector starts, where it is to be optimised."""
        if self._noise == "fixed":
            return []
        shapes = self.generator.synthesis.noise_shapes
        return [normal(self.seed, self.names, f"noise {i}", (1, *shape), self.device) for i, shape in enumerate(shapes)]

    def basis(self, kind: str) -> Basis:
        """Coordinates of the codes that suit a minimiser: none, or the principal axes of the loss' gradients."""
        axes = gradient_axes(self.generator, **self._options) if kind == "gradients" else None
        return Basis(axes, self._lanes)

    def evaluate(self, unknowns: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Loss (N,) of unknowns and its gradient for each of them; recorded, and told to the callback."""
        found = [each.evaluate(unknowns) for each in self._chunks]
        terms = {name: self._join([one.terms[name] for one in found]) for name in found[0].terms}
        gradients = [self._join(parts) for parts in zip(*[one.gradients for one in found], strict=True)]
        self.record.add(terms, self.settle(unknowns), self.early_stop.frozen)
        self.early_stop.add(terms["loss"])
        if self.callback is not None:
            images, num_steps = self._join([one.images for one in found]), self.num_steps * (1 + self.restarts)
            self.callback(Progress(self._steps_before + self.record.step, num_steps, terms["loss"], images))
        return terms["loss"], gradients

    @torch.no_grad()
    def settle(self, unknowns: Sequence[Tensor]) -> list[Tensor]:
        """The unknowns as the generator sees them, see `Objective.settle`."""
        settled = [each.objective.settle([unknown[each.rows] for unknown in unknowns]) for each in self._chunks]
        return [self._join(parts) for parts in zip(*settled, strict=True)]

    def solve(self, minimise: Callable[[Problem], Sequence[Tensor]]) -> Inversion:
        """The inversion with the lowest loss of all attempts, image by image."""
        best = self._attempt(minimise)
        for attempt in range(1, 1 + self.restarts):
            self._open(attempt)
            other = self._attempt(minimise)
            best = other.where(other.loss < best.loss, best)
        num = len(self.names)
        seconds = torch.full((num,), (now(self.device) - self._began) / num)
        history = {name: rows.cpu() for name, rows in best.history.items()}
        return Inversion(best.unknowns[0], best.images, best.unknowns[1:] or None, history, seconds)

    @torch.no_grad()
    def _attempt(self, minimise: Callable[[Problem], Sequence[Tensor]]) -> _Attempt:
        """Where the minimiser ended, or the best that was ever evaluated, by `keep`."""
        chosen = self.settle(minimise(self))
        images, loss = self._look(chosen)
        if self.keep == "best":
            self.record.consider(loss, chosen)
            chosen, loss = self.record.best, self.record.lowest
            images, _ = self._look(chosen)
        return _Attempt(loss, chosen, images, self.record.finished_history())

    def _look(self, settled: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Images and loss (N,) of settled unknowns."""
        images, losses = [], []
        for each in self._chunks:
            mine = [unknown[each.rows] for unknown in settled]
            images.append(each.objective.images(mine))
            losses.append(each.objective.terms(images[-1], mine)["loss"])
        return self._join(images), self._join(losses)

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        """Chunks of `lanes` rows -> N rows, without the copies that fill the last one."""
        return torch.cat(list(parts))[: len(self.names)]


class _Attempt(NamedTuple):
    """What one start led to, every entry by image."""

    loss: Tensor  # (N,)
    unknowns: list[Tensor]
    images: Tensor
    history: dict[str, Tensor]  # (steps, N)

    def where(self, mask: Tensor, other: _Attempt) -> _Attempt:
        """`self` where the mask (N,) is set, else `other`."""

        def choose(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(mask.view(-1, *[1] * (mine.ndim - 1)), mine, theirs)

        return _Attempt(
            choose(self.loss, other.loss),
            [choose(*pair) for pair in zip(self.unknowns, other.unknowns, strict=True)],
            choose(self.images, other.images),
            {name: torch.where(mask, rows, other.history[name]) for name, rows in self.history.items()},
        )


class _Evaluation(NamedTuple):
    terms: dict[str, Tensor]
    gradients: tuple[Tensor, ...]
    images: Tensor


class _Chunk(NamedTuple):
    """Images that are evaluated together: their row numbers and their objective."""

    rows: Tensor
    objective: Objective

    def evaluate(self, unknowns: Sequence[Tensor]) -> _Evaluation:
        with torch.enable_grad():
            mine = [unknown.detach()[self.rows].requires_grad_() for unknown in unknowns]
            settled = self.objective.settle(mine)
            images = self.objective.images(settled)
            terms = self.objective.terms(images, settled)
            gradients = torch.autograd.grad(terms["loss"].sum(), mine)
        return _Evaluation({name: term.detach() for name, term in terms.items()}, gradients, images.detach())


def _on(device: torch.device, tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.to(device)


def _rows(tensor: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if tensor is None else tensor[rows]


def _check_choices(num_steps: int, restarts: int, **choices: tuple[str, tuple[str, ...]]) -> None:
    if num_steps < 1:
        raise UserError(f"steps={num_steps} is not allowed: it must be 1 or more.")
    if restarts < 0:
        raise UserError(f"restarts={restarts} is not allowed: it must be 0 or more.")
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            raise UserError(f"{key}={value} is not allowed: choose one of {', '.join(allowed)}.")
