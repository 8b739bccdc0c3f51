"""Inversion by gradient descent: NVlabs' projector (StyleGAN2, Karras et al. 2020, appendix D), in every space."""

import functools
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from wplus.core.random import NormalStream, rng
from wplus.core.runtime import float32_convolutions
from wplus.errors import UserError, check_choice
from wplus.inversion.objective import LOSS_WEIGHTS, Objective, renormalize, synthesize
from wplus.inversion.problem import Problem
from wplus.inversion.result import Inversion, where_rows
from wplus.inversion.task import InversionTask
from wplus.latents.labels import labels_in_turn
from wplus.latents.w_stats import map_samples

_NUM_PAIRS, _PAIRS_AT_ONCE = 128, 8  # pairs of latent and target used to estimate the preconditioner
_APART = 0.5  # distance of latent and target, in deviations of single numbers: typical of a search in progress
_LARGEST_PART = 1024  # largest part of a flat code for which axes are computed, at cubic cost
Axes = Tensor | list[tuple[int, Tensor | None]] | None
_known_axes: weakref.WeakKeyDictionary[Any, dict[Any, Axes]] = weakref.WeakKeyDictionary()


@torch.no_grad()
@float32_convolutions()
def optimize(
    task: InversionTask,
    *,
    num_steps: int = 1000,  # updates; one evaluation of generator and loss each
    lr: float = 0.3,  # peak of the schedule; NVlabs use 0.1 for w, but with few steps a higher rate gets further
    lr_rampup: float = 0.05,  # share of the steps over which it rises linearly from 0
    lr_rampdown: float = 0.25,  # share of the steps over which it decays to 0 at the end, as a cosine
    latent_noise: float = 0.05,  # on the latent at the first step, in total deviations of the prior; 0: none
    latent_noise_length: float = 0.75,  # share of the steps over which that noise decays to 0, quadratically
    loss_weights: Mapping[str, float] = LOSS_WEIGHTS,  # of the terms of the loss, including further ones by name
    init: Literal["mean", "seed", "best_of_n", "encoder"] = "mean",  # mean | seed (random) | best_of_n | encoder
    num_candidates: int = 500,  # samples that best_of_n chooses from
    restarts: int = 0,  # further attempts from random samples; the one with the lowest loss is kept per image
    early_stop: Mapping[str, float] | None = None,  # or {patience: 50, tolerance: 0.01}, see `EarlyStop`
    preconditioner: Literal["none", "gradients"] = "none",  # coordinates for Adam: the latent's, or `gradient_axes`
    noise: Literal["fixed", "optimize"] = "fixed",  # the generator's stored noise | noise maps per image
    return_best: bool = True,  # return the lowest loss of all evaluations; false: the last step (NVlabs)
) -> Inversion:
    """Images -> latents with Adam, each image independently: a batch of N gives the same results as N single runs.

    z (each layer's z in z+) is constrained to the sphere of mean square 1 and projected back onto it after every step.
    With `early_stop`, an image may finish before its learning rate has decayed, so use it for starts close to the
    solution. UserError for options that do not fit the task.
    """
    check_choice("preconditioner", preconditioner, ("none", "gradients"))
    if not lr > 0:
        raise UserError(f"lr must be above 0, got {lr}.")
    problem = Problem(
        task, num_steps=num_steps, loss_weights=loss_weights, init=init, num_candidates=num_candidates,
        restarts=restarts, early_stop=early_stop, noise=noise, return_best=return_best,
    )  # fmt: skip
    axes = gradient_axes(problem.objective) if preconditioner == "gradients" else None
    descend = functools.partial(
        adam, axes=axes,
        lr=lambda t: lr * lr_multiplier(t, rampup=lr_rampup, rampdown=lr_rampdown),
        latent_noise=lambda t: latent_noise * latent_noise_multiplier(t, length=latent_noise_length),
    )  # fmt: skip
    return problem.solve(descend)


def adam(
    problem: Problem, *, lr: Callable[[float], float], latent_noise: Callable[[float], float], axes: Axes
) -> list[Tensor]:
    """Final parameters of Adam along `axes`; `lr` and `latent_noise` (in deviations of the prior) are functions of the
    share of steps done."""
    rotated = functools.partial(rotate, axes=axes, chunks=problem.rows)
    unrotated = functools.partial(rotate, axes=transposed(axes), chunks=problem.rows)
    task, params, record = problem.task, problem.params, problem.record
    w, noise_maps = params[0], params[1:]  # w, or the variables of another space
    w_noise = NormalStream(task.seed, task.names, "code noise", w.shape[1:], task.device)
    w_std = problem.prior.std.view(-1, *[1] * (w.ndim - 1))
    w_rotated = rotated(w)
    optimizer = torch.optim.Adam([w_rotated, *noise_maps], betas=(0.9, 0.999))

    for step in range(problem.num_steps):
        # Learning rate: up linearly over the first 5 % of the steps, down as a cosine over the last 25 %.
        t = step / problem.num_steps
        optimizer.param_groups[0]["lr"] = lr(t)

        # w~ = w + N(0, 0.05 sigma_w t^2), t from 1 to 0 over the first 75 %, to escape poor local minima.
        strength = latent_noise(t)
        noisy = w + w_noise.next() * (w_std * strength) if strength > 0 else w

        # Loss of G(w~) and its gradients, image by image.
        _, (w_grad, *noise_grads) = problem.evaluate([noisy, *noise_maps])
        w_rotated.grad = rotated(w_grad)
        for noise_map, gradient in zip(noise_maps, noise_grads, strict=True):
            noise_map.grad = gradient

        # Step, then project z back onto its sphere and noise to mean 0 and mean square 1, which does not change the
        # loss but affects the size of the next step. Finished images stay as they are.
        before = [param.clone() for param in params]
        optimizer.step()
        w.copy_(unrotated(w_rotated))
        for param, old, normalized in zip(params, before, problem.renormalize(params), strict=True):
            param.copy_(where_rows(record.frozen, old, normalized))
        w_rotated.copy_(rotated(w))
        if record.is_over():
            break
    return params


def lr_multiplier(t: float, *, rampup: float, rampdown: float) -> float:
    """Learning rate multiplier at the share t of the steps: linear ramp-up, cosine ramp-down."""
    up = min(1.0, t / rampup) if rampup > 0 else 1.0
    down = min(1.0, (1 - t) / rampdown) if rampdown > 0 else 1.0
    return up * (0.5 - 0.5 * math.cos(math.pi * down))


def latent_noise_multiplier(t: float, *, length: float) -> float:
    """Strength of the noise on the latent: decays quadratically and reaches 0 at `length`."""
    return max(0.0, 1 - t / length) ** 2 if length > 0 else 0.0


def rotate(latents: Tensor, axes: Axes, chunks: Sequence[Tensor]) -> Tensor:
    """Latents (N, D) or (N, L, D) in coordinates along `axes`, columns of (D, D) or (L, D, D); None: unchanged.

    The axes of a flat code are a list with one entry per part. Computed in chunks of rows, so that results do not
    depend on the batch bit for bit. The transposed axes rotate back.
    """
    if axes is None:
        return latents
    if isinstance(axes, list):
        parts = latents.split([size for size, _ in axes], dim=1)
        return torch.cat([rotate(part, each, chunks) for part, (_, each) in zip(parts, axes, strict=True)], dim=1)
    return torch.cat([torch.einsum("n...d,...de->n...e", latents[rows], axes) for rows in chunks])[: len(latents)]


def transposed(axes: Axes) -> Axes:
    """The axes that rotate back."""
    if isinstance(axes, list):
        return [(size, None if each is None else each.mT) for size, each in axes]
    return None if axes is None else axes.mT


def gradient_axes(objective: Objective) -> Axes:
    """Principal axes of a loss' gradients with respect to the latent, per layer: (D, D), in z+ and w+ (num_ws, D, D).

    For a flat code (s, f/w+) they are computed per part; parts of more than 1024 numbers, such as maps, are left alone.

    Adam normalises the gradient of each coordinate, which helps if coordinates are aligned with the steep and flat
    directions of the loss. Those of w are not: an image depends strongly on a few combinations of them and hardly on
    others. The eigenvectors of the gradients' covariance are (as in Shampoo and SOAP for weights, Gupta et al. 2018,
    Vyas et al. 2024): 200 steps from an encoder's latent get closer to held-out cats than 1000 in w's coordinates.

    They depend only on generator and loss: they are estimated once, on the generator's own images, at latents half a
    deviation away from the true ones, and cached for the lifetime of the generator.
    """
    task = objective.task
    terms = (task.perceptual, *task.losses.values())
    key = (task.space, tuple(sorted(objective.weights.items())), tuple(map(id, terms)))
    known = _known_axes.setdefault(task.generator, {})
    if key in known:
        return known[key]
    latents, labels = _samples(objective.task)
    near = latents + _APART * latents.std() * torch.randn(latents.shape, generator=rng(123, "basis, apart")).to(latents)
    chunks = torch.arange(_NUM_PAIRS).split(_PAIRS_AT_ONCE)
    parts = [_gradients(objective, latents[i], near[i], None if labels is None else labels[i]) for i in chunks]
    gradients, sizes = torch.cat(parts).double(), task.latent_space.parts(task.generator)
    if sizes:
        few = [size <= _LARGEST_PART for size in sizes]
        each = zip(sizes, few, gradients.split(sizes, dim=1), strict=True)
        known[key] = [(size, _principal(part).to(latents) if rotates else None) for size, rotates, part in each]
    else:
        known[key] = _principal(gradients).to(latents)
    return known[key]


def _principal(gradients: Tensor) -> Tensor:
    """Eigenvectors of the covariance of gradients (N, D) or (N, L, D), as columns."""
    covariance = torch.einsum("n...d,n...e->...de", gradients, gradients) / len(gradients)
    return torch.linalg.eigh(covariance.cpu())[1]


@torch.no_grad()
def _samples(task: InversionTask) -> tuple[Tensor, Tensor | None]:
    """Random latents (_NUM_PAIRS, ...) of the space, and their labels for a conditional generator."""
    generator, labels = task.generator, labels_in_turn(task.generator, _NUM_PAIRS)
    z = torch.randn(_NUM_PAIRS, generator.z_dim, generator=rng(123, "basis")).to(task.device)
    space = task.latent_space
    vectors = z if space.is_before_mapping else map_samples(generator, z, labels)
    return task.to_variables(space.from_vectors(vectors, generator)), labels


def _gradients(objective: Objective, true: Tensor, near: Tensor, labels: Tensor | None) -> Tensor:
    """Gradients of the loss at latents `near`, with the images of `true` as targets."""
    task = objective.task
    blank = torch.zeros(len(true), *task.images.shape[1:], device=true.device)
    task = replace(task, images=blank, names=(), labels=labels, masks=None)
    with torch.no_grad():
        images = synthesize(task, renormalize([true], task.latent_space))
    objective = Objective(replace(task, images=images), objective.weights)
    with torch.enable_grad():
        latents = near.detach().requires_grad_()
        params = renormalize([latents], task.latent_space)
        loss = objective.terms(synthesize(task, params), params)["loss"].sum()
    return torch.autograd.grad(loss, latents)[0]
