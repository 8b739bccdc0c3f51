"""Pivotal tuning leaves other latents alone: a loss that holds their images, and how far these moved all the same.

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
_AT_ONCE = 8  # images made together, always so many: their digits depend on the size of a batch


class Locality:
    """The images of other latents are to stay (Roich et al. 2021, section 3.3): one random one every `interval` steps.

    Arguments as of `pti`, locality_*. The loss is multiplied by the interval, so that the strength stays.
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
        """How far images (N, C, R, R) of `ws` are from those that the generator makes of it: (N,)."""
        with torch.no_grad():
            before = self._task.generator.synthesis(ws, noise_mode="const")
        return Objective(replace(self._task, images=before), self._weights).terms(images, [ws])["loss"]

    @torch.no_grad()
    def points(self, task: InversionTask, ws: Tensor, num: int) -> Tensor:
        """ws (num, num_ws, w_dim) on the way from the pivot `ws` (1, num_ws, w_dim) to random samples, `alpha` away.

        Random by the seed and the name of the task's one image. A sample that is nearer than `alpha` is taken itself:
        beyond it nothing is known to be an image.
        """
        words = (task.names[0], "locality")
        ways = sample_ws(task.generator, num, self.psi, seed=task.seed, words=words) - ws
        lengths = ways.flatten(1).norm(dim=1).clamp_min(1e-8)
        return ws + ways * (self.alpha / lengths).clamp_max(1.0)[:, None, None]


def sample_ws(generator: GeneratorNetwork, num: int, psi: float, *, seed: int, words: tuple[str, ...]) -> Tensor:
    """ws (num, num_ws, w_dim) of random z and labels of the data, truncated by psi; random by seed and words."""
    average = generator.mapping.w_avg
    z = torch.randn(num, generator.z_dim, generator=rng(seed, *words)).to(average)
    return average + psi * (generator.mapping(z, labels_in_turn(generator, num)) - average)


@torch.no_grad()
def locality_scores(task: InversionTask, deltas: Sequence[WeightDelta], *, num: int, psi: float) -> dict[str, Score]:
    """How far each delta moved the images of `num` seeded samples, on average: by term, each (N,); none for num=0."""
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
        meaning = (
            f"How far the generator's images of other latents moved when it was tuned, by {name}; 0 is not at all."
        )
        scores[f"locality_{name}"] = Score(torch.stack(means), MetricInfo(meaning=meaning, direction="lower"))
    return scores
