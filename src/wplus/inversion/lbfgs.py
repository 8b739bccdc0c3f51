"""Inversion by L-BFGS with a strong-Wolfe line search, every image of a batch for itself (see `quasi_newton`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.inversion.problem import Problem
from wplus.inversion.quasi_newton import minimise
from wplus.inversion.result import Callback, Inversion
from wplus.latents.latent import Space
from wplus.losses.image_pair import ImageDistance
from wplus.losses.perceptual import PerceptualDistance


def lbfgs(
    generator: Any,
    targets: Tensor,
    *,
    space: Space,
    perceptual: PerceptualDistance | None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    labels: Tensor | None = None,
    callback: Callback | None = None,
    encoder: Any = None,
    masks: Tensor | None = None,
    losses: Mapping[str, ImageDistance] | None = None,
    steps: int = 250,
    memory: int = 10,
    first_step: float = 0.1,
    max_tries: int = 10,
    tolerance: float = 1e-7,
    weights: Mapping[str, float] | None = None,
    start: Literal["mean", "seed", "best_of", "encoder"] = "mean",
    num_candidates: int = 500,
    restarts: int = 0,
    early_stop: Mapping[str, float] | None = None,
    noise: Literal["fixed", "optimize"] = "fixed",
    keep: Literal["best", "last"] = "best",
    lanes: int | None = None,
) -> Inversion:
    """Images -> codes with L-BFGS. Arguments as in `wplus.inversion.optimize.optimize`, and

    steps       evaluations of generator and loss, the trials of the line searches included
    memory      pairs of steps and gradient differences that the curvature model is built from
    first_step  root mean square, per number, of the very first step and of a restart
    max_tries   evaluations per line search; then the best point found is taken, or the memory is dropped
    tolerance   an image is done when no number of its gradient is larger
    """
    if memory < 1 or max_tries < 2 or not first_step > 0:
        raise UserError(f"memory={memory}, max_tries={max_tries}, first_step={first_step}: at least 1, 2 and above 0.")
    problem = Problem(
        generator, targets, space=space, perceptual=perceptual, seed=seed, names=names, labels=labels,
        callback=callback, encoder=encoder, masks=masks, losses=losses, num_steps=steps, weights=weights, start=start,
        num_candidates=num_candidates, restarts=restarts, early_stop=early_stop, noise=noise, keep=keep, lanes=lanes,
    )  # fmt: skip

    def descend(problem: Problem) -> list[Tensor]:
        like = problem.unknowns

        def evaluate(points: Tensor) -> tuple[Tensor, Tensor]:
            loss, gradients = problem.evaluate(_split(points, like))
            return loss, torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)

        found = minimise(
            evaluate, torch.cat([unknown.flatten(1) for unknown in like], dim=1), max_evaluations=steps, memory=memory,
            first_step=first_step, max_tries=max_tries, tolerance=tolerance,
            given_up=lambda: problem.early_stop.frozen,
        )  # fmt: skip
        return _split(found, like)

    return problem.solve(descend)


def _split(points: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Points (N, D) as tensors of the shapes of `like`."""
    sizes = [unknown[0].numel() for unknown in like]
    return [part.view_as(unknown) for part, unknown in zip(points.split(sizes, dim=1), like, strict=True)]
