"""What an inversion minimises: a loss per image, from a code and perhaps noise maps, against fixed targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.inversion.noise import autocorrelation, white
from wplus.latents import Space, check_space, to_ws
from wplus.losses.perceptual import PerceptualDistance
from wplus.losses.pixel import l1, l2


@dataclass(frozen=True)
class Weights:
    """Weight of each term of the loss.

    Attributes
        l1, l2      mean absolute and mean squared difference of pixels in [-1, 1]; on cats at 32 px an l2 of 10 ends
                    with lower pixel errors than 1, and in w with a lower perceptual distance too
        perceptual  the perceptual distance
        delta       squared distance of the code from where it started, summed over its numbers
        noise       autocorrelation of the noise maps, where these are optimised (NVlabs' value)
    """

    l1: float = 0.0
    l2: float = 10.0
    perceptual: float = 1.0
    delta: float = 0.0
    noise: float = 1e5

    @staticmethod
    def of(weights: Mapping[str, float] | Weights | None) -> Weights:
        """Weights by name; those not named keep their defaults. UserError for an unknown name or a bad value."""
        if isinstance(weights, Weights):
            return weights
        names = [field.name for field in dataclasses.fields(Weights)]
        for name, value in (weights or {}).items():
            if name not in names:
                raise UserError(f"The inversion loss has no term '{name}': its terms are {', '.join(names)}.")
            if not 0 <= value < float("inf"):
                raise UserError(f"The weight {value} of the term '{name}' is not allowed: it must be 0 or more.")
        return Weights(**(weights or {}))


def on_sphere(z: Tensor, eps: float = 1e-8) -> Tensor:
    """z (N, z_dim) scaled to mean square 1: there a normal prior has its mass, and the mapping scales it so anyway."""
    return z * (z.square().mean(dim=1, keepdim=True) + eps).rsqrt()


class Objective:
    """Per-image loss of unknowns [codes (N, ...), *noise maps (N, 1, r, r)]; images of a batch never mix.

    The unknowns are settled before they are used: z onto its sphere, noise to mean 0 and mean square 1. Minimisers may
    therefore move in all directions. Without noise maps among the unknowns the generator's stored noise is used, so
    that the loss is a deterministic function.
    """

    def __init__(
        self,
        generator: Any,
        targets: Tensor,
        *,
        space: Space,
        perceptual: PerceptualDistance | None,
        weights: Weights,
        labels: Tensor | None = None,
    ) -> None:
        _check(generator, targets, perceptual, weights, labels, space)
        self.generator, self.targets, self.space, self.labels = generator, targets, space, labels
        self.weights, self.perceptual = weights, perceptual if weights.perceptual > 0 else None
        self.anchor: Tensor | None = None  # codes (N, ...) that the delta term pulls to
        with torch.no_grad():
            self.target_features = self._features(targets)

    def settle(self, unknowns: Sequence[Tensor]) -> list[Tensor]:
        """The unknowns as the generator sees them, differentiable."""
        codes = on_sphere(unknowns[0]) if self.space == "z" else unknowns[0]
        return [codes, *(white(layer) for layer in unknowns[1:])]

    def images(self, settled: Sequence[Tensor]) -> Tensor:
        """Pictures (N, C, R, R) of settled unknowns."""
        return self._decode(settled[0], self.labels, list(settled[1:]))

    def terms(self, images: Tensor, settled: Sequence[Tensor]) -> dict[str, Tensor]:
        """Terms of the loss, unweighted, and "loss", their weighted sum: each (N,)."""
        terms = self._image_terms(images, self._features(images), slice(None))
        if self.anchor is not None and self.weights.delta > 0:
            terms["delta"] = (settled[0] - self.anchor).square().flatten(1).sum(dim=1)
        if len(settled) > 1:
            terms["noise"] = autocorrelation(settled[1:])
        return {"loss": self._weighted(terms), **terms}

    def losses_of_each(self, codes: Tensor, members: Tensor, label: Tensor | None) -> Tensor:
        """Image loss of every code (B, ...) for every target in `members` (M,), which share a label: (B, M)."""
        labels = None if label is None else label.expand(len(codes), -1)
        images = self._decode(on_sphere(codes) if self.space == "z" else codes, labels, [])
        features = self._features(images)
        each = [self._image_terms(images, features, slice(index, index + 1)) for index in members.tolist()]
        return torch.stack([self._weighted(terms) for terms in each], dim=1)

    def _decode(self, codes: Tensor, labels: Tensor | None, noise: list[Tensor]) -> Tensor:
        ws = to_ws(codes, self.space, self.generator, labels=labels)
        return self.generator.synthesis(ws, noise=noise) if noise else self.generator.synthesis(ws, noise_mode="const")

    def _features(self, images: Tensor) -> list[Tensor]:
        return self.perceptual.features(images) if self.perceptual else []

    def _image_terms(self, images: Tensor, features: list[Tensor], rows: slice) -> dict[str, Tensor]:
        """Terms that compare images with the targets in `rows`, one to one or all with a single one."""
        targets = self.targets[rows]
        terms = {"l1": l1(images, targets), "l2": l2(images, targets)}
        if self.perceptual:
            terms["perceptual"] = self.perceptual.distance(features, [maps[rows] for maps in self.target_features])
        return terms

    def _weighted(self, terms: dict[str, Tensor]) -> Tensor:
        weights = dataclasses.asdict(self.weights)
        return torch.stack([weights[name] * term for name, term in terms.items() if weights[name] > 0]).sum(dim=0)


def _check(
    generator: Any, targets: Tensor, perceptual: Any, weights: Weights, labels: Tensor | None, space: str
) -> None:
    check_space(space)
    shape = (generator.img_channels, generator.resolution, generator.resolution)
    if targets.ndim != 4 or tuple(targets.shape[1:]) != shape:
        wanted = ", ".join(map(str, shape))
        raise UserError(f"Targets of shape {tuple(targets.shape)} do not fit this generator: it makes (N, {wanted}).")
    if weights.perceptual > 0 and perceptual is None:
        raise UserError(f"The perceptual term's weight {weights.perceptual} needs a perceptual net: name one, or 0.")
    if not (weights.l1 or weights.l2 or weights.perceptual):
        raise UserError("All weights of image terms are 0: give l1, l2 or perceptual a positive one.")
    if space == "z" and generator.c_dim and labels is None:
        raise UserError(f"This generator has {generator.c_dim} classes: inversion into z needs a label per image.")
