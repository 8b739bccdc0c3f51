"""The objective of an inversion: the loss of each image as a function of its latent and, optionally, noise maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.errors import UserError, check_number
from wplus.inversion.task import InversionTask
from wplus.latents.latent import decode
from wplus.latents.space import LatentSpace
from wplus.losses.image_pair import ImageDistance
from wplus.losses.pixel import L1, L2

_PIXELS = ("l1", "l2")  # cheap, so recorded regardless of their weight
IMAGE_WEIGHTS = {
    "l1": 0.0,  # mean absolute difference of pixels in [-1, 1]
    "l2": 10.0,  # mean squared difference; on cats at 32 px, 10 ends with lower pixel errors than 1
    "perceptual": 1.0,
}
LOSS_WEIGHTS = {
    **IMAGE_WEIGHTS,
    "delta": 0.0,  # squared distance of the latent from its starting point, summed over its numbers
    "noise": 1e5,  # autocorrelation of the noise maps, if these are optimised (NVlabs' value)
    "prior": 0.0,  # distance of w, or of w+ averaged over layers, from the latent distribution, see `Whitened`
}
_SMALLEST_MAP = 8  # px; last level of the noise regulariser's pyramid


def image_terms(task: InversionTask) -> dict[str, ImageDistance]:
    """Distances between two images, by name: l1, l2, perceptual if there is one, and the further losses."""
    taken = next((name for name in task.losses if name in LOSS_WEIGHTS), None)
    if taken is not None:
        raise UserError(f"The name of a further loss must be a new one, got '{taken}'.")
    perceptual = {} if task.perceptual is None else {"perceptual": task.perceptual}
    return {"l1": L1(), "l2": L2(), **perceptual, **task.losses}


def all_loss_weights(task: InversionTask, given: Mapping[str, float]) -> dict[str, float]:
    """The weight of each loss term: those of `LOSS_WEIGHTS` and, 0 by default, of `task.losses`, updated by `given`.

    UserError for an unknown name, a bad value, and weights that have no effect or leave no image term.
    """
    weights = {**LOSS_WEIGHTS, **dict.fromkeys(task.losses, 0.0)}
    for name, value in given.items():
        if name not in weights:
            raise UserError(f"loss_weights must be of {', '.join(weights)}, got '{name}'.")
        check_number(f"loss_weights.{name}", value, lowest=0)
    weights |= given
    for name, useless, why in (
        ("perceptual", task.perceptual is None, "without a perceptual net"),
        ("prior", task.latent_space.is_before_mapping, f"in {task.space}, where all latents are equally likely"),
    ):
        if weights[name] and useless:
            raise UserError(f"loss_weights.{name} must be 0 {why}, got {weights[name]}.")
    terms = image_terms(task)
    if not any(weights[name] for name in terms):
        raise UserError(f"loss_weights of {', '.join(terms)} must have one above 0, got 0 for all.")
    return weights


def objectives(task: InversionTask, weights: Mapping[str, float]) -> list[tuple[Tensor, Objective]]:
    """Row indices and objective of each chunk of the images."""
    return [(rows, Objective(part, weights)) for rows, part in task.chunks()]


class Objective:
    """Per-image loss of params [variables (N, ...), *noise maps (N, 1, r, r)]; images of a batch never mix.

    The variables of a space are its latents, or latents divided by its scale (`InversionTask.to_latents`).

    Without noise maps the generator's stored noise is used, so the loss is deterministic. With masks, every image term
    is a mean over the mask, and both target and image are set to grey where a mask is 0: nets have large receptive
    fields, and pixels outside the mask must have no influence. Weights are those of `all_loss_weights`.
    """

    def __init__(self, task: InversionTask, weights: Mapping[str, float]) -> None:
        self.task, self.weights = task, weights
        terms = image_terms(task).items()
        self.compared = {name: term for name, term in terms if name in _PIXELS or weights[name] > 0}
        self.anchor: Tensor | None = None  # variables (N, ...) that the delta term pulls towards
        with torch.no_grad():
            self._target_features = self._features(task.images, task.masks)

    def terms(self, images: Tensor, params: Sequence[Tensor]) -> dict[str, Tensor]:
        """Terms of the loss, unweighted, and "loss", their weighted sum: each (N,)."""
        terms = self._image_terms(self._features(images, self.task.masks), slice(None))
        if self.anchor is not None and self.weights["delta"] > 0:
            terms["delta"] = (params[0] - self.anchor).square().flatten(1).sum(dim=1)
        if len(params) > 1:
            terms["noise"] = autocorrelation(params[1:])
        if self.weights["prior"] > 0:
            latents = self.task.to_latents(params[0])
            terms["prior"] = self.task.latent_space.prior_distance(latents, self.task.generator)
        return {"loss": self._weighted(terms), **terms}

    def losses_of_each(self, latents: Tensor, members: Tensor, label: Tensor | None) -> Tensor:
        """Image loss of every latent (B, ...) for every target in `members` (M,), which share a label: (B, M)."""
        labels = None if label is None else label.expand(len(latents), -1)
        generator, masks, losses = self.task.generator, self.task.masks, []
        (latents,) = renormalize([latents], self.task.latent_space)
        drawn = decode(latents, self.task.space, generator, labels=labels)
        images = generator.synthesis(drawn, noise_mode="const")
        features = self._features(images, None)
        for index in members.tolist():
            rows = slice(index, index + 1)
            seen = features if masks is None else self._features(images, masks[rows])
            losses.append(self._weighted(self._image_terms(seen, rows)))
        return torch.stack(losses, dim=1)

    def _features(self, images: Tensor, masks: Tensor | None) -> dict[str, list[Tensor]]:
        seen = images if masks is None else images * (masks > 0)
        return {name: term.features(seen) for name, term in self.compared.items()}

    def _image_terms(self, features: Mapping[str, list[Tensor]], rows: slice) -> dict[str, Tensor]:
        """Terms comparing images with the targets in `rows`, one to one or all with a single target."""
        masks = None if self.task.masks is None else self.task.masks[rows]
        targets = {name: [each[rows] for each in found] for name, found in self._target_features.items()}
        return {name: term.distance(features[name], targets[name], masks) for name, term in self.compared.items()}

    def _weighted(self, terms: dict[str, Tensor]) -> Tensor:
        parts = [self.weights[name] * term for name, term in terms.items() if self.weights[name] > 0]
        return torch.stack(parts).sum(dim=0)


def synthesize(task: InversionTask, params: Sequence[Tensor]) -> Tensor:
    """Images (N, C, R, R) of renormalized params."""
    drawn, noise = task.decode(task.to_latents(params[0])), list(params[1:])
    synthesis = task.generator.synthesis
    return synthesis(drawn, noise=noise) if noise else synthesis(drawn, noise_mode="const")


def renormalize(params: Sequence[Tensor], space: LatentSpace) -> list[Tensor]:
    """Params as passed to the generator, differentiable: z (each layer's z in z+) on its sphere, noise normalised."""
    latents = on_sphere(params[0]) if space.is_before_mapping else params[0]
    return [latents, *map(white, params[1:])]


def on_sphere(z: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale z (..., z_dim) to mean square 1, where a normal prior concentrates; the mapping network does so anyway."""
    return z * (z.square().mean(dim=-1, keepdim=True) + eps).rsqrt()


def white(noise: Tensor, eps: float = 1e-12) -> Tensor:
    """Normalise maps (N, 1, r, r) to mean 0 and mean square 1, per image (StyleGAN2, appendix D)."""
    centred = noise - noise.mean(dim=(1, 2, 3), keepdim=True)
    return centred * (centred.square().mean(dim=(1, 2, 3), keepdim=True) + eps).rsqrt()


def autocorrelation(noise: Sequence[Tensor]) -> Tensor:
    """The noise regulariser of StyleGAN2 (appendix D), (N,): squared correlation with the map shifted by one pixel.

    Summed over maps (N, 1, r, r), both axes, and a pyramid of each map down to 8 px. Means are taken per image before
    squaring; averaging over the batch first, as is sometimes done, would couple the images.
    """
    total = noise[0].new_zeros(len(noise[0]))
    for level in noise:
        while True:
            total = total + sum((level * level.roll(1, dims=axis)).mean(dim=(1, 2, 3)).square() for axis in (2, 3))
            if level.shape[2] <= _SMALLEST_MAP:
                break
            level = F.avg_pool2d(level, 2)
    return total
