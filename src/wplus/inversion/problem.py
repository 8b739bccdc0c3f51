"""An inversion by optimisation without its minimiser: checked inputs, starting point, record, and the final result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.inversion.noise import white
from wplus.inversion.objective import Objective, Weights
from wplus.inversion.record import Record
from wplus.inversion.result import Callback, Inversion, Progress
from wplus.inversion.seeds import normal
from wplus.inversion.start import prior, start_codes
from wplus.latents import Space
from wplus.losses.perceptual import PerceptualDistance

NOISES = ("fixed", "optimize")
KEEPS = ("best", "last")


class Problem:
    """The unknowns of N images and the loss of each, as a minimiser needs them.

    Arguments as in `wplus.inversion.optimize.optimize`. A minimiser moves `unknowns` in place or evaluates others like
    them with `evaluate`, and ends with `result`.
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
    ) -> None:
        self.began = time.perf_counter()
        _check_choices(num_steps, noise=(noise, NOISES), keep=(keep, KEEPS))
        self.names = [str(index) for index in range(len(targets))] if names is None else list(names)
        self.seed, self.num_steps, self.keep, self.callback = seed, num_steps, keep, callback
        self.objective = Objective(
            generator, targets, space=space, perceptual=perceptual, weights=Weights.of(weights), labels=labels
        )
        self.prior = prior(generator, space, labels, len(targets))
        codes = start_codes(
            self.objective, self.prior, start=start, seed=seed, names=self.names, num_candidates=num_candidates
        )
        self.unknowns = self.objective.settle([codes, *self._start_noise(noise)])
        self.objective.anchor = self.unknowns[0].clone()
        self.record = Record(num_steps, self.unknowns)

    def _start_noise(self, noise: str) -> list[Tensor]:
        """White noise for every layer of every image, as NVlabs' projector starts, where it is to be optimised."""
        if noise == "fixed":
            return []
        shapes, device = self.objective.generator.synthesis.noise_shapes, self.objective.targets.device
        draws = [normal(self.seed, self.names, f"noise {i}", (1, *shape), device) for i, shape in enumerate(shapes)]
        return [white(layer) for layer in draws]

    def evaluate(self, unknowns: Sequence[Tensor]) -> Tensor:
        """Loss (N,) of unknowns, differentiable; recorded, and told to the callback."""
        settled = self.objective.settle(unknowns)
        images = self.objective.images(settled)
        terms = self.objective.terms(images, settled)
        self.record.add(terms, settled)
        if self.callback is not None:
            self.callback(Progress(self.record.step, self.num_steps, terms["loss"].detach(), images.detach()))
        return terms["loss"]

    @torch.no_grad()
    def result(self, unknowns: Sequence[Tensor]) -> Inversion:
        """The inversion that ended at `unknowns`: those, or the best that were ever evaluated, by `keep`."""
        chosen = self.objective.settle(unknowns)
        images = self.objective.images(chosen)
        if self.keep == "best":
            self.record.consider(self.objective.terms(images, chosen)["loss"], chosen)
            chosen = self.record.best
            images = self.objective.images(chosen)
        history = self.record.finished_history()  # waits for the device, so that the time is that of the work
        num = len(images)
        seconds = torch.full((num,), (time.perf_counter() - self.began) / num)
        return Inversion(chosen[0].detach(), images, [layer.detach() for layer in chosen[1:]] or None, history, seconds)


def _check_choices(num_steps: int, **choices: tuple[str, tuple[str, ...]]) -> None:
    if num_steps < 1:
        raise UserError(f"steps={num_steps} is not allowed: it must be 1 or more.")
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            raise UserError(f"{key}={value} is not allowed: choose one of {', '.join(allowed)}.")
