"""Perceptual path length of one walk: how much the picture moves for a small step, averaged over the way."""

from __future__ import annotations

import torch
from torch import Tensor

from wplus.core.random import rng
from wplus.errors import UserError
from wplus.interpolation.walk import MetricTools, Trajectory, repeated

EPSILON = 1e-4
AT_ONCE = 16  # pictures, whatever the batch size: at a step of 1e-4 the rounding of another kernel is seen


def pair_ppl(
    walk: Trajectory, judges: MetricTools, *, num_samples: int = 8, epsilon: float = EPSILON, seed: int = 0
) -> dict[str, float]:
    """E over t ~ U(0, 1) of d(g(t), g(t + epsilon)) / epsilon^2: StyleGAN's estimator, on the path between two images.

    Karras et al. 2019 (arXiv:1812.04948, section 4.1) sample both ends from the prior; here they are given. One t is
    drawn in each of `num_samples` equal parts of [0, 1 - epsilon], which keeps the mean and lowers the variance; the
    same draws for every method on this pair. Noise is the same in both images. The trimming of StyleGAN's code (1st to
    99th percentile) is over pairs, so it belongs to the summary.

    - `pair_ppl`: with the net's name appended where it is not LPIPS-VGG, the net of the papers.
    - `relative_ppl`: that over d(ends). The distances of the LPIPS family are squares: d = |f(x) - f(y)|^2. On the
      straight way at constant speed through feature space d(g(t), g(t + e)) = e^2 d(ends), so the ratio is 1 there,
      whatever the pair; by Cauchy-Schwarz and the triangle inequality no way has less. Dividing by d^2, as is
      sometimes written, would suit a distance that is not squared. Left out where the ends are equal.
    """
    if not 0 < epsilon < 1 or num_samples < 1:
        raise UserError(
            f"epsilon={epsilon} with num_samples={num_samples} is not allowed: a step between 0 and 1, and a sample."
        )
    draws = torch.rand(num_samples, generator=rng(seed, walk.name, "path length"), dtype=torch.float64)
    t = (torch.arange(num_samples) + draws) / num_samples * (1 - epsilon)
    value = float(squared_speeds(walk, judges, t, epsilon=epsilon).mean())
    name = "pair_ppl" if judges.perceptual.name == "lpips_vgg" else f"pair_ppl_{judges.perceptual.name}"
    ends = float(judges.distances(repeated(walk.features, 0), repeated(walk.features, len(walk.t) - 1)))
    return {name: value} if ends == 0 else {name: value, "relative_ppl": value / ends}


@torch.no_grad()
def squared_speeds(walk: Trajectory, judges: MetricTools, t: Tensor, *, epsilon: float) -> Tensor:
    """d(g(t), g(t + epsilon)) / epsilon^2 at positions t (N,): (N,) float64.

    Both images of a pair go through the networks in one batch, so that the same kernels compute them: their difference
    is all that counts. The last batch is filled with its last pair.
    """
    filled = torch.cat([t, t[-1:].expand(-len(t) % (AT_ONCE // 2))])
    both = torch.stack([filled, filled + epsilon], dim=1).flatten()
    speeds = []
    for positions in both.split(AT_ONCE):
        features = judges.perceptual.features(walk.at(positions))
        speeds.append(judges.distances([maps[0::2] for maps in features], [maps[1::2] for maps in features]))
    return torch.cat(speeds)[: len(t)] / epsilon**2
