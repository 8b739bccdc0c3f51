"""Coordinates for Adam: the principal axes of the loss' gradients, layer by layer.

Adam divides every coordinate's gradient by its own size. That helps where coordinates are the directions in which the
loss is steep and flat, and those of w are not: a picture depends on a few combinations of them strongly, and on the
others hardly. Turned into the eigenvectors of the gradients' covariance (as Shampoo and SOAP do for weights, Gupta et
al. 2018, Vyas et al. 2024), 200 steps from an encoder's code get closer to held-out cats than 1000 in the coordinates
that the code happens to have. The axes depend on generator and loss alone, so that they are found once, on pictures
that the generator itself draws.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from wplus.core.batching import chunk_rows
from wplus.core.random import rng
from wplus.inversion.objective import ON_SPHERE, Objective
from wplus.latents.latent import Space
from wplus.latents.w_stats import map_samples

BASES = ("none", "gradients")
NUM_PAIRS = 128
_APART = 0.5  # of code and target, in deviations of single numbers: as far as a search is on its way
_BATCH = 8
_known: weakref.WeakKeyDictionary[Any, dict[Any, Tensor]] = weakref.WeakKeyDictionary()


class Basis:
    """An orthogonal turn of codes (N, D) or (N, L, D), computed in lanes so that a batch gives what single images give.

    `axes` holds the new axes as columns, (D, D) or (L, D, D); None leaves codes as they are, bit for bit.
    """

    def __init__(self, axes: Tensor | None, lanes: int) -> None:
        self._axes, self._lanes = axes, lanes

    def turn(self, codes: Tensor) -> Tensor:
        """Codes, or gradients, in the new coordinates."""
        return codes if self._axes is None else self._times(codes, self._axes)

    def back(self, turned: Tensor) -> Tensor:
        """And in their own."""
        return turned if self._axes is None else self._times(turned, self._axes.mT)

    def _times(self, codes: Tensor, axes: Tensor) -> Tensor:
        rows = chunk_rows(len(codes), self._lanes, codes.device)
        parts = [torch.einsum("n...d,...de->n...e", codes[row], axes) for row in rows]
        return torch.cat(parts)[: len(codes)]


def gradient_axes(generator: Any, *, space: Space, **options: Any) -> Tensor:
    """Eigenvectors of the covariance of the loss' gradients by the code: (D, D), in z+ and w+ (num_ws, D, D).

    `options` are those of `Objective`, the weights among them. The gradients are those at codes half a deviation away
    from random ones, for the random ones' pictures. Kept as long as the generator lives.
    """
    weights = tuple(sorted(options["weights"].items()))
    terms = (options["perceptual"], *(options["losses"] or {}).values())
    key = (space, weights, tuple(map(id, terms)))
    known = _known.setdefault(generator, {})
    if key not in known:
        known[key] = _axes(generator, space, options)
    return known[key]


def _axes(generator: Any, space: Space, options: dict[str, Any]) -> Tensor:
    codes, labels = _samples(generator, space)
    near = codes + _APART * codes.std() * torch.randn(codes.shape, generator=rng(123, "basis, apart")).to(codes)
    gradients = torch.cat(
        [
            _gradients(generator, space, codes[part], near[part], None if labels is None else labels[part], options)
            for part in torch.arange(NUM_PAIRS).split(_BATCH)
        ]
    ).double()
    covariance = torch.einsum("n...d,n...e->...de", gradients, gradients) / NUM_PAIRS
    return torch.linalg.eigh(covariance.cpu())[1].to(codes)


@torch.no_grad()
def _samples(generator: Any, space: Space) -> tuple[Tensor, Tensor | None]:
    """Random codes (NUM_PAIRS, ...) of the space, and the classes that a conditional generator draws them from."""
    device, c_dim = generator.mapping.w_avg.device, generator.c_dim
    z = torch.randn(NUM_PAIRS, generator.z_dim, generator=rng(123, "basis")).to(device)
    labels = torch.eye(c_dim, device=device)[torch.arange(NUM_PAIRS) % c_dim] if c_dim else None
    codes = z if space in ON_SPHERE else map_samples(generator, z, labels)
    return (codes[:, None].repeat(1, generator.num_ws, 1) if space in ("z+", "w+") else codes), labels


def _gradients(
    generator: Any, space: Space, true: Tensor, near: Tensor, labels: Tensor | None, options: dict[str, Any]
) -> Tensor:
    # Any target of the right shape makes an objective; the true one is the picture that it draws of the true codes.
    size = (len(true), generator.img_channels, generator.resolution, generator.resolution)
    drawing = Objective(generator, torch.zeros(size, device=true.device), space=space, labels=labels, **options)
    with torch.no_grad():
        targets = drawing.images(drawing.settle([true]))
    objective = Objective(generator, targets, space=space, labels=labels, **options)
    with torch.enable_grad():
        codes = near.detach().requires_grad_()
        settled = objective.settle([codes])
        loss = objective.terms(objective.images(settled), settled)["loss"].sum()
    return torch.autograd.grad(loss, codes)[0]
