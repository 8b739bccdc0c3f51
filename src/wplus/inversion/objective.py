"""What an inversion minimises: a loss per image, from a code and perhaps noise maps, against fixed targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.inversion.noise import autocorrelation, white
from wplus.latents.latent import Space, check_space, to_ws
from wplus.latents.w_stats import Whitened
from wplus.losses.image_pair import ImageDistance
from wplus.losses.perceptual import PerceptualDistance
from wplus.losses.pixel import L1, L2

ON_SPHERE = ("z", "z+")
_PIXELS = ("l1", "l2")  # cheap: recorded whatever their weight
_IMAGE_WEIGHTS = {"l1": 0.0, "l2": 10.0, "perceptual": 1.0}
_CODE_WEIGHTS = {"delta": 0.0, "noise": 1e5, "prior": 0.0}


def weights_by_name(weights: Mapping[str, float] | None, losses: Iterable[str] = ()) -> dict[str, float]:
    """Weight of each term of the loss; UserError for an unknown name or a bad value. Those not named have defaults.

    l1, l2      0 and 10: mean absolute and mean squared difference of pixels in [-1, 1]; on cats at 32 px an l2 of 10
                ends with lower pixel errors than 1, and in w with a lower perceptual distance too
    perceptual  1: the perceptual distance
    `losses`    0: the further image terms
    delta       0: squared distance of the code from where it started, summed over its numbers
    noise       1e5: autocorrelation of the noise maps, where these are optimised (NVlabs' value)
    prior       0: distance of w, or of w+ averaged over layers, from the latent distribution, see `Whitened`
    """
    known = {**_IMAGE_WEIGHTS, **dict.fromkeys(losses, 0.0), **_CODE_WEIGHTS}
    for name, value in (weights or {}).items():
        if name not in known:
            raise UserError(f"The inversion loss has no term '{name}': its terms are {', '.join(known)}.")
        if not 0 <= value < float("inf"):
            raise UserError(f"The weight {value} of the term '{name}' is not allowed: it must be 0 or more.")
    return {**known, **(weights or {})}


def image_terms(
    perceptual: PerceptualDistance | None, losses: Mapping[str, ImageDistance] | None
) -> dict[str, ImageDistance]:
    """What compares two images, by name: l1, l2, perceptual where there is one, and the further losses."""
    for name in losses or {}:
        if name in _IMAGE_WEIGHTS or name in _CODE_WEIGHTS:
            raise UserError(f"A further loss cannot be called '{name}': that term is there already.")
    own = {"l1": L1(), "l2": L2(), **({} if perceptual is None else {"perceptual": perceptual})}
    return {**own, **(losses or {})}


def on_sphere(z: Tensor, eps: float = 1e-8) -> Tensor:
    """z (..., z_dim) at mean square 1: there a normal prior has its mass, and the mapping scales it so anyway."""
    return z * (z.square().mean(dim=-1, keepdim=True) + eps).rsqrt()


class Objective:
    """Per-image loss of unknowns [codes (N, ...), *noise maps (N, 1, r, r)]; images of a batch never mix.

    The unknowns are settled before they are used: z (in z+ that of every layer) onto its sphere, noise to mean 0 and
    mean square 1. Minimisers may therefore move in all directions. Without noise maps among the unknowns the
    generator's stored noise is used, so that the loss is a deterministic function.

    With masks every image term is a mean over the mask. Where a mask is 0, target and picture are both made grey: nets
    look further than a pixel, and what lies outside must not matter.

    Arguments as in `wplus.inversion.result`, and
        weights   as `weights_by_name` makes them
        whitened  the latent distribution, which a positive weight of the prior term needs
    """

    def __init__(
        self,
        generator: Any,
        targets: Tensor,
        *,
        space: Space,
        perceptual: PerceptualDistance | None,
        weights: Mapping[str, float],
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        losses: Mapping[str, ImageDistance] | None = None,
        whitened: Whitened | None = None,
    ) -> None:
        terms = image_terms(perceptual, losses)
        _check(generator, targets, terms, weights, labels, masks, space)
        self.generator, self.targets, self.space, self.labels = generator, targets, space, labels
        self.weights, self.masks, self.whitened = weights, masks, whitened
        self.compared = {name: term for name, term in terms.items() if name in _PIXELS or weights[name] > 0}
        self.anchor: Tensor | None = None  # codes (N, ...) that the delta term pulls to
        with torch.no_grad():
            self.target_features = self._features(targets, masks)

    def settle(self, unknowns: Sequence[Tensor]) -> list[Tensor]:
        """The unknowns as the generator sees them, differentiable."""
        codes = on_sphere(unknowns[0]) if self.space in ON_SPHERE else unknowns[0]
        return [codes, *(white(layer) for layer in unknowns[1:])]

    def images(self, settled: Sequence[Tensor]) -> Tensor:
        """Pictures (N, C, R, R) of settled unknowns."""
        return self._decode(settled[0], self.labels, list(settled[1:]))

    def terms(self, images: Tensor, settled: Sequence[Tensor]) -> dict[str, Tensor]:
        """Terms of the loss, unweighted, and "loss", their weighted sum: each (N,)."""
        terms = self._image_terms(self._features(images, self.masks), slice(None))
        if self.anchor is not None and self.weights["delta"] > 0:
            terms["delta"] = (settled[0] - self.anchor).square().flatten(1).sum(dim=1)
        if len(settled) > 1:
            terms["noise"] = autocorrelation(settled[1:])
        if self.whitened is not None and self.weights["prior"] > 0:
            terms["prior"] = self.whitened.distance(settled[0])
        return {"loss": self._weighted(terms), **terms}

    def losses_of_each(self, codes: Tensor, members: Tensor, label: Tensor | None) -> Tensor:
        """Image loss of every code (B, ...) for every target in `members` (M,), which share a label: (B, M)."""
        labels = None if label is None else label.expand(len(codes), -1)
        images = self._decode(on_sphere(codes) if self.space in ON_SPHERE else codes, labels, [])
        features, each = None if self.masks is not None else self._features(images, None), []
        for index in members.tolist():
            rows = slice(index, index + 1)
            seen = self._features(images, self.masks[rows]) if features is None else features
            each.append(self._weighted(self._image_terms(seen, rows)))
        return torch.stack(each, dim=1)

    def _decode(self, codes: Tensor, labels: Tensor | None, noise: list[Tensor]) -> Tensor:
        ws = to_ws(codes, self.space, self.generator, labels=labels)
        return self.generator.synthesis(ws, noise=noise) if noise else self.generator.synthesis(ws, noise_mode="const")

    def _features(self, images: Tensor, masks: Tensor | None) -> dict[str, list[Tensor]]:
        seen = images if masks is None else images * (masks > 0)
        return {name: term.features(seen) for name, term in self.compared.items()}

    def _image_terms(self, features: Mapping[str, list[Tensor]], rows: slice) -> dict[str, Tensor]:
        """Terms that compare images with the targets in `rows`, one to one or all with a single one."""
        masks = None if self.masks is None else self.masks[rows]
        targets = {name: [each[rows] for each in found] for name, found in self.target_features.items()}
        return {name: term.distance(features[name], targets[name], masks) for name, term in self.compared.items()}

    def _weighted(self, terms: dict[str, Tensor]) -> Tensor:
        parts = [self.weights[name] * term for name, term in terms.items() if self.weights[name] > 0]
        return torch.stack(parts).sum(dim=0)


def _check(
    generator: Any,
    targets: Tensor,
    terms: Mapping[str, ImageDistance],
    weights: Mapping[str, float],
    labels: Tensor | None,
    masks: Tensor | None,
    space: str,
) -> None:
    check_space(space)
    size = generator.resolution
    if targets.ndim != 4 or tuple(targets.shape[1:]) != (generator.img_channels, size, size):
        wanted = f"(N, {generator.img_channels}, {size}, {size})"
        raise UserError(f"Targets of shape {tuple(targets.shape)} do not fit this generator: it makes {wanted}.")
    if masks is not None and tuple(masks.shape) != (len(targets), 1, size, size):
        wanted = f"({len(targets)}, 1, {size}, {size})"
        raise UserError(f"Masks of shape {tuple(masks.shape)} do not fit the targets: they must be {wanted}.")
    if weights["perceptual"] > 0 and "perceptual" not in terms:
        raise UserError(f"The perceptual term's weight {weights['perceptual']} needs a perceptual net: name one, or 0.")
    if not any(weights[name] for name in terms):
        raise UserError(f"All weights of image terms are 0: give {' or '.join(terms)} a positive one.")
    if space in ON_SPHERE and generator.c_dim and labels is None:
        raise UserError(f"This generator has {generator.c_dim} classes: inversion into {space} needs a label for each.")
    if space in ON_SPHERE and weights["prior"]:
        raise UserError(f"The prior term has no effect in {space}, where all codes are equally likely: give it 0.")
