"""Perceptual path length of one trajectory: how much the image changes for a small step, averaged over the path."""

import torch
from torch import Tensor

from wplus.core.batching import MIN_SHOWN
from wplus.core.random import rng
from wplus.errors import UserError, check_number
from wplus.interpolation.trajectory import MetricTools, PathNumber, Scores, Trajectory

PAIR_PPL = PathNumber(name="pair_ppl", direction="lower", shown="file", trimmed=True, meaning=(
    "Perceptual path length between two images: how much the image changes for a small step; it also grows with how "
    "different the two images are."))  # fmt: skip
RELATIVE_PPL = PathNumber(name="relative_ppl", direction="lower", format=".2f", shown="short", trimmed=True, meaning=(
    "Mean squared speed of the image along the path over the squared distance between its ends; 1 is the straightest, "
    "most even path there is."))  # fmt: skip


def pair_ppl(
    trajectory: Trajectory,
    tools: MetricTools,
    *,
    num_samples: int = 8,  # positions t
    epsilon: float = 1e-4,  # as published
    seed: int = 0,
) -> Scores:
    """E over t ~ U(0, 1) of d(g(t), g(t + epsilon)) / epsilon^2: StyleGAN's estimator, on the path between two images.

    Karras et al. 2019 (arXiv:1812.04948, section 4.1) sample both ends from the prior; here they are given. One t is
    drawn in each of `num_samples` equal parts of [0, 1 - epsilon], which preserves the mean and reduces the variance;
    all methods use the same draws for a pair. The trimming in StyleGAN's code (1st to 99th percentile) is over pairs,
    so it applies to the mean over them. The net's name is appended unless it is LPIPS-VGG, the net of the papers.

    `relative_ppl` divides this by d(ends). Distances of the LPIPS family are squared lengths, d = |f(x) - f(y)|^2. On a
    straight line at constant speed through feature space, d(g(t), g(t + e)) = e^2 d(ends), so the ratio is 1 for any
    pair, and by Cauchy-Schwarz and the triangle inequality no path has less. It is omitted if the ends are equal.
    """
    if not 0 < epsilon < 1:
        raise UserError(f"epsilon must be between 0 and 1, got {epsilon}.")
    check_number("num_samples", num_samples, lowest=1, whole=True)
    draws = torch.rand(num_samples, generator=rng(seed, trajectory.name, "path length"), dtype=torch.float64)
    t = (torch.arange(num_samples) + draws) / num_samples * (1 - epsilon)
    value, net = float(squared_speeds(trajectory, tools, t, epsilon=epsilon).mean()), tools.perceptual.name
    yield PAIR_PPL if net == "lpips_vgg" else PAIR_PPL.by(net), value
    if chord := tools.chord(trajectory):
        yield RELATIVE_PPL, value / chord


@torch.no_grad()
def squared_speeds(trajectory: Trajectory, tools: MetricTools, t: Tensor, *, epsilon: float) -> Tensor:
    """d(g(t), g(t + epsilon)) / epsilon^2 at positions t (N,): (N,) float64.

    Both images of a pair go through the networks in one batch, so that the same kernels compute them, as only their
    difference matters. The batch size is fixed, independent of the tools', because at a step of 1e-4 the rounding of a
    different kernel is visible. The last batch is padded with its last pair.
    """
    filled = torch.cat([t, t[-1:].expand(-len(t) % (MIN_SHOWN // 2))])
    both = torch.stack([filled, filled + epsilon], dim=1).flatten()
    speeds = []
    for positions in both.split(MIN_SHOWN):
        features = tools.perceptual.features(trajectory.at(positions))
        speeds.append(tools.distances([maps[0::2] for maps in features], [maps[1::2] for maps in features]))
    return torch.cat(speeds)[: len(t)] / epsilon**2
