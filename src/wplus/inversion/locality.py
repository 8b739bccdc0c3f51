"""Locality of pivotal tuning: a loss that keeps images of other latents in place, and how far they moved anyway.

Roich et al. 2021 (2106.05744), section 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wplus.core.metric_result import MetricInfo
from wplus.core.random import rng
from wplus.errors import UserError, check_number
from wplus.inversion.objective import Objective, all_loss_weights
from wplus.inversion.result import Score
from wplus.inversion.task import InversionTask
from wplus.latents.labels import labels_in_turn
from wplus.latents.weight_delta import WeightDelta
from wplus.losses.image_pair import ImageDistance
from wplus.losses.pixel import L2
from wplus.models.generator import GeneratorNetwork

LOCALITY_WEIGHTS = {"l2": 0.1, "perceptual": 0.1}  # as published
_AT_ONCE = 8  # images per batch, always exactly this many: rounding depends on the batch size


class Locality:
    """Keeps images of other latents in place (Roich et al. 2021, section 3.3), a random one every `interval` steps.

    Arguments as locality_* of `pti`. The loss is multiplied by the interval, so that its overall strength is the same.
    """

    def __init__(
        self, task: InversionTask, weights: Mapping[str, float], alpha: float, psi: float, interval: int
    ) -> None:
        unknown = sorted(set(weights) - set(LOCALITY_WEIGHTS))
        if unknown:
            raise UserError(f"locality_weights must be of {' and '.join(LOCALITY_WEIGHTS)}, got '{unknown[0]}'.")
        check_number("locality_interval", interval, lowest=1, whole=True)
        if not alpha > 0:
            raise UserError(f"locality_alpha must be above 0, got {alpha}.")
        self.alpha, self.psi, self.interval = alpha, psi, interval
        self._task = replace(task, labels=None, masks=None, losses={}, names=())
        self._weights = all_loss_weights(self._task, {**LOCALITY_WEIGHTS, **weights})

    def distance(self, images: Tensor, ws: Tensor) -> Tensor:
        """Distance (N,) of images (N, C, R, R) of `ws` from those of the original generator."""
        with torch.no_grad():
            before = self._task.generator.synthesis(ws, noise_mode="const")
        return Objective(replace(self._task, images=before), self._weights).terms(images, [ws])["loss"]

    @torch.no_grad()
    def points(self, task: InversionTask, ws: Tensor, num: int) -> Tensor:
        """ws (num, num_ws, w_dim) at distance `alpha` from the pivot `ws` (1, num_ws, w_dim) towards random samples.

        Seeded by the task's seed and the name of its single image. A sample closer than `alpha` is used itself, since
        points beyond it need not give valid images.
        """
        words = (task.names[0], "locality")
        ways = sample_ws(task.generator, num, self.psi, seed=task.seed, words=words) - ws
        lengths = ways.flatten(1).norm(dim=1).clamp_min(1e-8)
        return ws + ways * (self.alpha / lengths).clamp_max(1.0)[:, None, None]


def sample_ws(generator: GeneratorNetwork, num: int, psi: float, *, seed: int, words: tuple[str, ...]) -> Tensor:
    """ws (num, num_ws, w_dim) of random z and labels of the data, truncated by psi; seeded by `seed` and `words`."""
    average = generator.mapping.w_avg
    z = torch.randn(num, generator.z_dim, generator=rng(seed, *words)).to(average)
    return average + psi * (generator.mapping(z, labels_in_turn(generator, num)) - average)


@torch.no_grad()
def locality_scores(task: InversionTask, deltas: Sequence[WeightDelta], *, num: int, psi: float) -> dict[str, Score]:
    """Mean distance by which each delta moved the images of `num` seeded samples: term -> (N,); empty for num=0."""
    if num < 1:
        return {}
    generator, perceptual = task.generator, task.perceptual
    terms: dict[str, ImageDistance] = {"l2": L2(), **({} if perceptual is None else {perceptual.name: perceptual})}
    filled = -(-num // _AT_ONCE) * _AT_ONCE
    ws = sample_ws(generator, filled, psi, seed=task.seed, words=("other pictures",)).split(_AT_ONCE)
    before = [generator.synthesis(part, noise_mode="const") for part in ws]
    moved: dict[str, list[Tensor]] = {name: [] for name in terms}
    for delta in deltas:
        tuned = delta.applied(generator, known=delta.generator)
        after = [tuned.synthesis(part, noise_mode="const") for part in ws]
        for name, term in terms.items():
            distances = [term(*pair) for pair in zip(after, before, strict=True)]
            moved[name].append(torch.cat(distances)[:num].mean())
    scores = {}
    for name, means in moved.items():
        meaning = f"How far tuning moved the generator's images of other latents, measured by {name}; 0 is not at all."
        scores[f"locality_{name}"] = Score(torch.stack(means), MetricInfo(meaning=meaning, direction="lower"))
    return scores
