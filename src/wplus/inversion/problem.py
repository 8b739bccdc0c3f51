"""An inversion by optimisation without its minimiser: checked inputs, starting point, record, and the final result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.inversion.objective import Objective, Weights
from wplus.inversion.record import Record
from wplus.inversion.result import Callback, Inversion, Progress
from wplus.inversion.seeds import normal
from wplus.inversion.start import prior, start_codes
from wplus.latents import Space
from wplus.losses.perceptual import PerceptualDistance

NOISES = ("fixed", "optimize")
KEEPS = ("best", "last")


def default_lanes(resolution: int, device: torch.device) -> int:
    """Images to evaluate at once, from 1 to 8: as many as it takes to fill the machine at this resolution, no more."""
    return min(8, max(1, (128 if device.type == "cpu" else 2048) // resolution))


class Problem:
    """The unknowns of N images and the loss of each, as a minimiser needs them.

    The images are evaluated in chunks of exactly `lanes`, the last one filled up with copies. Kernels choose their
    order of summation by the size of the batch; hundreds of steps amplify that difference in the seventh digit to one
    that can be seen. With a fixed size, an image has the same bits whatever it travels with (on a CPU; CUDA's kernels
    promise less). Memory depends on `lanes`, not on N.

    Arguments as in `wplus.inversion.optimize.optimize`. A minimiser evaluates `unknowns`, or others like them, with
    `evaluate`, and ends with `result`.
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
        num_steps: int,
        weights: Mapping[str, float] | Weights | None,
        start: str,
        num_candidates: int,
        noise: str,
        keep: str,
        lanes: int | None,
    ) -> None:
        self.began = time.perf_counter()
        _check_choices(num_steps, lanes, noise=(noise, NOISES), keep=(keep, KEEPS))
        self.names = [str(index) for index in range(len(targets))] if names is None else list(names)
        self.seed, self.num_steps, self.keep, self.callback = seed, num_steps, keep, callback
        self.generator, self.device = generator, targets.device
        labels = None if labels is None else labels.to(targets.device)
        lanes = lanes or default_lanes(generator.resolution, targets.device)
        options = {"space": space, "perceptual": perceptual, "weights": Weights.of(weights)}
        whole = Objective(generator, targets, labels=labels, **options)
        self.prior = prior(generator, space, labels, len(targets))
        codes = start_codes(
            whole, self.prior, start=start, seed=seed, names=self.names, num_candidates=num_candidates
        )  # fmt: skip
        self._chunks = []
        for rows in _rows(len(targets), lanes, targets.device):
            own_labels = None if labels is None else labels[rows]
            self._chunks.append(_Chunk(rows, Objective(generator, targets[rows], labels=own_labels, **options)))
        self.unknowns = self.settle([codes, *self._start_noise(noise)])
        for each in self._chunks:
            each.objective.anchor = self.unknowns[0][each.rows]
        self.record = Record(num_steps, self.unknowns)

    def _start_noise(self, noise: str) -> list[Tensor]:
        """White noise for every layer of every image, as NVlabs' projector starts, where it is to be optimised."""
        if noise == "fixed":
            return []
        shapes = self.generator.synthesis.noise_shapes
        return [normal(self.seed, self.names, f"noise {i}", (1, *shape), self.device) for i, shape in enumerate(shapes)]

    def evaluate(self, unknowns: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Loss (N,) of unknowns and its gradient for each of them; recorded, and told to the callback."""
        found = [each.evaluate(unknowns) for each in self._chunks]
        terms = {name: self._join([one.terms[name] for one in found]) for name in found[0].terms}
        gradients = [self._join(parts) for parts in zip(*[one.gradients for one in found], strict=True)]
        self.record.add(terms, self.settle(unknowns))
        if self.callback is not None:
            images = self._join([one.images for one in found])
            self.callback(Progress(self.record.step, self.num_steps, terms["loss"], images))
        return terms["loss"], gradients

    @torch.no_grad()
    def settle(self, unknowns: Sequence[Tensor]) -> list[Tensor]:
        """The unknowns as the generator sees them, see `Objective.settle`."""
        settled = [each.objective.settle([unknown[each.rows] for unknown in unknowns]) for each in self._chunks]
        return [self._join(parts) for parts in zip(*settled, strict=True)]

    @torch.no_grad()
    def result(self, unknowns: Sequence[Tensor]) -> Inversion:
        """The inversion that ended at `unknowns`: those, or the best that were ever evaluated, by `keep`."""
        chosen = self.settle(unknowns)
        images, loss = self._look(chosen)
        if self.keep == "best":
            self.record.consider(loss, chosen)
            chosen = self.record.best
            images, _ = self._look(chosen)
        history = self.record.finished_history()  # waits for the device, so that the time is that of the work
        num = len(images)
        seconds = torch.full((num,), (time.perf_counter() - self.began) / num)
        return Inversion(chosen[0], images, chosen[1:] or None, history, seconds)

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


def _rows(num: int, lanes: int, device: torch.device) -> list[Tensor]:
    """Row numbers of each chunk, exactly `lanes` of them: the last row is repeated where there are no more."""
    return [torch.arange(first, first + lanes, device=device).clamp_max(num - 1) for first in range(0, num, lanes)]


def _check_choices(num_steps: int, lanes: int | None, **choices: tuple[str, tuple[str, ...]]) -> None:
    if num_steps < 1:
        raise UserError(f"steps={num_steps} is not allowed: it must be 1 or more.")
    if lanes is not None and lanes < 1:
        raise UserError(f"lanes={lanes} is not allowed: it must be 1 or more, or null.")
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            raise UserError(f"{key}={value} is not allowed: choose one of {', '.join(allowed)}.")
