"""What pivotal tuning does to other pictures: held where they were while it tunes, and measured when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wplus.core.random import rng
from wplus.errors import UserError
from wplus.inversion.objective import Objective, weights_by_name
from wplus.losses.image_pair import ImageDistance
from wplus.losses.perceptual import PerceptualDistance

WEIGHTS = {"l2": 0.1, "perceptual": 0.1}  # as published
_CHUNK = 8  # pictures made at once, always so many: their digits depend on the size of a batch


@dataclass(frozen=True)
class Locality:
    """The pictures of other codes are to stay (Roich et al. 2021, section 3.3): one random code every so many steps.

    Attributes
        perceptual  the perceptual distance, where it has a weight
        weights     of "l2" and "perceptual" between a picture of the tuned and of the original generator
        alpha       distance of the other codes from the pivot, over all layers together
        psi         truncation of the samples in whose direction they lie
        interval    steps from one to the next; the weights are multiplied by it, so that the strength stays
    """

    perceptual: PerceptualDistance | None
    weights: Mapping[str, float]
    alpha: float
    psi: float
    interval: int

    def __post_init__(self) -> None:
        unknown = sorted(set(self.weights) - set(WEIGHTS))
        if unknown:
            raise UserError(f"The locality term has no part '{unknown[0]}': its parts are {' and '.join(WEIGHTS)}.")
        if self.interval < 1 or not self.alpha > 0:
            raise UserError(f"locality_interval={self.interval}, locality_alpha={self.alpha}: from 1, and above 0.")

    def distance(self, generator: Any, images: Tensor, ws: Tensor) -> Tensor:
        """How far pictures (N, C, R, R) of `ws` are from those that the generator makes of it: (N,)."""
        with torch.no_grad():
            before = generator.synthesis(ws, noise_mode="const")
        weights = weights_by_name({**dict.fromkeys(WEIGHTS, 0.0), **self.weights})
        objective = Objective(generator, before, space="w+", perceptual=self.perceptual, weights=weights)
        return objective.terms(images, [ws])["loss"]


def sample_styles(generator: Any, num: int, psi: float, *, seed: int, words: tuple[str, ...]) -> Tensor:
    """Styles (num, num_ws, w_dim) of random z, of all classes in turn, truncated by psi; random by seed and words."""
    average = generator.mapping.w_avg
    z = torch.randn(num, generator.z_dim, generator=rng(seed, *words)).to(average)
    classes = torch.arange(num, device=z.device) % generator.c_dim if generator.c_dim else None
    labels = None if classes is None else torch.eye(generator.c_dim, device=z.device)[classes]
    return average + psi * (generator.mapping(z, labels) - average)


@torch.no_grad()
def held_points(generator: Any, ws: Tensor, locality: Locality, *, num: int, seed: int, name: str) -> Tensor:
    """Styles (num, num_ws, w_dim) on the way from the pivot `ws` (1, num_ws, w_dim) to random samples, `alpha` away.

    A sample that is nearer than `alpha` is taken itself: beyond it nothing is known to be a picture.
    """
    ways = sample_styles(generator, num, locality.psi, seed=seed, words=(name, "locality")) - ws
    lengths = ways.flatten(1).norm(dim=1).clamp_min(1e-8)
    return ws + ways * (locality.alpha / lengths).clamp_max(1.0)[:, None, None]


class Others:
    """Pictures of `num` seeded samples of a generator, to compare with those of tuned ones: the same for all images."""

    @torch.no_grad()
    def __init__(self, generator: Any, terms: Mapping[str, ImageDistance], *, num: int, psi: float, seed: int) -> None:
        self._terms, self._num = terms, num
        filled = -(-num // _CHUNK) * _CHUNK
        self._ws = sample_styles(generator, filled, psi, seed=seed, words=("other pictures",)).split(_CHUNK)
        self._before = [self._features(generator, ws) for ws in self._ws]

    @torch.no_grad()
    def distances(self, tuned: Any) -> dict[str, Tensor]:
        """Mean distance of the pictures of a tuned generator from the original ones, by term: scalars."""
        found: dict[str, list[Tensor]] = {name: [] for name in self._terms}
        for ws, before in zip(self._ws, self._before, strict=True):
            after = self._features(tuned, ws)
            for name, term in self._terms.items():
                found[name].append(term.distance(after[name], before[name]))
        return {name: torch.cat(values)[: self._num].mean() for name, values in found.items()}

    def _features(self, generator: Any, ws: Tensor) -> dict[str, list[Tensor]]:
        images = generator.synthesis(ws, noise_mode="const")
        return {name: term.features(images) for name, term in self._terms.items()}
