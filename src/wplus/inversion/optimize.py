"""Inversion by gradient descent: NVlabs' projector (StyleGAN2, Karras et al. 2020, appendix D), in every space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from wplus.core.random import NormalStream
from wplus.errors import UserError
from wplus.inversion.basis import BASES
from wplus.inversion.problem import Problem
from wplus.inversion.result import Callback, Inversion
from wplus.inversion.schedule import code_noise_multiplier, learning_rate_multiplier
from wplus.latents.latent import Space
from wplus.losses.image_pair import ImageDistance
from wplus.losses.perceptual import PerceptualDistance

# NVlabs' projector has 0.1 for w and a thousand steps; with few steps a higher rate gets further in every space.
LEARNING_RATES = {"z": 0.3, "z+": 0.3, "w": 0.3, "w+": 0.3}


@torch.no_grad()
def optimize(
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
    steps: int = 1000,
    lr: float | None = None,
    lr_rampup: float = 0.05,
    lr_rampdown: float = 0.25,
    code_noise: float = 0.05,
    code_noise_length: float = 0.75,
    weights: Mapping[str, float] | None = None,
    start: Literal["mean", "seed", "best_of", "encoder"] = "mean",
    num_candidates: int = 500,
    restarts: int = 0,
    early_stop: Mapping[str, float] | None = None,
    basis: Literal["none", "gradients"] = "none",
    noise: Literal["fixed", "optimize"] = "fixed",
    keep: Literal["best", "last"] = "best",
    lanes: int | None = None,
) -> Inversion:
    """Images -> codes with Adam, every image for itself: a batch of N gives what N single runs give.

    The first arguments are those of every inverter, see `wplus.inversion.result`. The others:

    steps              updates; one evaluation of generator and loss each
    lr                 learning rate at the height of its schedule; None takes `LEARNING_RATES` of the space
    lr_rampup          share of the steps over which it rises from 0, linearly
    lr_rampdown        share of the steps over which it falls to 0 at the end, as a cosine
    code_noise         noise on the code at the first step, as a share of the prior's total deviation, per number
    code_noise_length  share of the steps at which that noise has faded to 0, quadratically
    weights            of the loss terms, by name: l1, l2, perceptual, those of `losses`, delta, noise, prior; see
                       `objective.weights_by_name`
    start              mean, seed, best_of or encoder, see `start.start_codes`
    num_candidates     samples that best_of chooses from
    restarts           further attempts, each from a random sample and with other code noise; the one that ends with
                       the lowest loss is kept, image by image
    early_stop         patience (evaluations) and tolerance (share): an image is left where it is when its best loss
                       has not fallen by that share for so long; None: never. Its learning rate has then not come down
                       yet, so that it suits a start that is near
    basis              coordinates that Adam works in: none (those of the code, as NVlabs) or gradients (the principal
                       axes of the loss' gradients, see `basis`; found once per generator, on its own pictures)
    noise              fixed: the generator's stored noise; optimize: noise maps per image, from white noise
    keep               best: of all codes evaluated, the one with the lowest loss; last: where the steps end (NVlabs)
    lanes              images evaluated at a time, see `problem.Problem`; None: `core.batching.default_chunk_size`

    In z+ and w+ the code noise is drawn per layer. z (in z+ that of every layer) lives on the sphere of mean square 1:
    it is put back there after every step, its prior deviation is sqrt(z_dim), and its mean start is the sample whose w
    is nearest to the mean w.
    """
    if lr is not None and not lr > 0:
        raise UserError(f"lr={lr} is not allowed: it must be positive, or null for the default of the space.")
    problem = Problem(
        generator, targets, space=space, perceptual=perceptual, seed=seed, names=names, labels=labels,
        callback=callback, encoder=encoder, masks=masks, losses=losses, num_steps=steps, weights=weights, start=start,
        num_candidates=num_candidates, restarts=restarts, early_stop=early_stop, noise=noise, keep=keep, lanes=lanes,
    )  # fmt: skip
    if basis not in BASES:
        raise UserError(f"basis={basis} is not allowed: choose one of {', '.join(BASES)}.")
    peak = LEARNING_RATES[space] if lr is None else lr

    def descend(problem: Problem) -> list[Tensor]:
        unknowns, early_stop = problem.unknowns, problem.early_stop
        axes = problem.basis(basis)
        turned = [axes.turn(unknowns[0]), *unknowns[1:]]
        adam = torch.optim.Adam(turned, betas=(0.9, 0.999))
        jitter = _CodeNoise(problem, strength=code_noise, length=code_noise_length)
        for step in range(steps):
            t = step / steps
            adam.param_groups[0]["lr"] = peak * learning_rate_multiplier(t, rampup=lr_rampup, rampdown=lr_rampdown)
            _, gradients = problem.evaluate([jitter(unknowns[0], t), *unknowns[1:]])
            before = [unknown.clone() for unknown in unknowns]
            for unknown, gradient in zip(turned, [axes.turn(gradients[0]), *gradients[1:]], strict=True):
                unknown.grad = gradient
            adam.step()
            unknowns[0].copy_(axes.back(turned[0]))
            # z back onto its sphere, noise back to mean 0, mean square 1: no change to the loss, but to the step size.
            for unknown, old, settled in zip(unknowns, before, problem.settle(unknowns), strict=True):
                unknown.copy_(early_stop.held(old, settled))
            turned[0].copy_(axes.turn(unknowns[0]))
            if early_stop.is_over():
                break
        return unknowns

    return problem.solve(descend)


class _CodeNoise:
    """Fading noise on the codes, which keeps the search from settling in the first hollow it meets."""

    def __init__(self, problem: Problem, *, strength: float, length: float) -> None:
        codes = problem.unknowns[0]
        self._strength, self._length = strength, length
        self._std = problem.prior.std.view(-1, *[1] * (codes.ndim - 1))
        self._stream = NormalStream(problem.seed, problem.names, "code noise", codes.shape[1:], codes.device)

    def __call__(self, codes: Tensor, t: float) -> Tensor:
        strength = self._strength * code_noise_multiplier(t, length=self._length)
        return codes + self._stream.next() * (self._std * strength) if strength > 0 else codes
