"""From a sketch to an image: only the drawn pixels are matched, and the generator fills in the rest.

The task of CMU 16-726 (learning-image-synthesis), with three remedies for its failures: terms are means over the drawn
pixels, so that a small sketch counts as much as a large one; open pixels are pulled weakly towards the average image,
which gives a blob an outline; the prior term keeps the latent in the region the generator was trained on.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from wplus.core.random import rng
from wplus.errors import UserError
from wplus.inversion.optimize import optimize
from wplus.inversion.result import Inversion
from wplus.inversion.task import InversionTask
from wplus.latents.w_stats import map_samples
from wplus.losses.shape_style import Shape
from wplus.models.generator import GeneratorNetwork

SKETCH_WEIGHTS = {"l1": 0.0, "l2": 10.0, "perceptual": 2.0, "shape": 30.0, "delta": 0.0, "prior": 0.3}
_NUM_SAMPLES, _PSI = 256, 0.7  # images in the average, and their truncation
_CHUNK = 16


def sketch(
    task: InversionTask,
    *,
    num_steps: int = 300,  # updates by Adam
    lr: float = 0.3,  # peak of the schedule
    loss_weights: Mapping[str, float] = SKETCH_WEIGHTS,  # `shape`: positions of edges; `prior`, of w: keeps it a cat
    open_share: float = 0.2,  # of all weight, for open pixels, pulled towards the average image; below 1
    init: Literal["mean", "seed", "best_of_n", "encoder"] = "mean",  # mean | seed (random) | best_of_n | encoder
    num_candidates: int = 500,  # samples that best_of_n chooses from
    restarts: int = 0,  # further attempts; of several cats that fit the sketch, the best fit is kept
) -> Inversion:
    """Sketches -> latents with Adam. The task's masks, the opacity of the sketches, weight the pixels.

    In z and z+ every latent lies in the prior, so that term is dropped. UserError without masks.
    """
    if task.masks is None:
        raise UserError("inverter=sketch needs masks, got none: add masks=alpha, and leave open areas transparent.")
    if not 0 <= open_share < 1:
        raise UserError(f"open_share must be from 0 to below 1, got {open_share}.")
    average = average_images(task.generator, task.labels)
    images, masks = completed(task.images, task.masks, average, open_share)
    weights = {**SKETCH_WEIGHTS, **loss_weights}
    if task.latent_space.is_before_mapping:
        weights["prior"] = 0.0
    losses = {"shape": Shape().to(task.device), **task.losses}
    return optimize(
        replace(task, images=images, masks=masks, losses=losses), num_steps=num_steps, lr=lr, loss_weights=weights,
        init=init, num_candidates=num_candidates, restarts=restarts,
    )  # fmt: skip


def completed(targets: Tensor, masks: Tensor, average: Tensor, open_share: float) -> tuple[Tensor, Tensor]:
    """Sketches (N, C, R, R) composited onto the average image, and pixel weights of at most 1: (N, 1, R, R).

    Drawn pixels have total weight 1 - open_share, distributed by their masks (N, 1, R, R), and open pixels open_share,
    regardless of their areas. The target of a partly drawn pixel is the weighted mean of both, which minimises the sum
    of their squared differences, so thin paint keeps its colour.
    """
    area = masks.mean(dim=(1, 2, 3), keepdim=True)
    drawn = (1 - open_share) * masks / area.clamp_min(1e-6)
    left = open_share * (1 - masks) / (1 - area).clamp_min(1e-6)
    weights = drawn + left
    whole = (drawn * targets + left * average) / weights.clamp_min(1e-6)
    return whole, weights / weights.amax(dim=(1, 2, 3), keepdim=True)


@torch.no_grad()
def average_images(generator: GeneratorNetwork, labels: Tensor | None) -> Tensor:
    """The average image of a fixed set of samples: (1, C, R, R), or (N, C, R, R) by labels (N, c_dim).

    It has the average colours at each position, without the edges of any single image.
    """
    z, mean = torch.randn(_NUM_SAMPLES, generator.z_dim, generator=rng(123, "average picture")), generator.mapping.w_avg
    distinct, group = ([None], None) if labels is None else labels.unique(dim=0, return_inverse=True)
    averages = []
    for label in distinct:
        w = mean + _PSI * (map_samples(generator, z, label) - mean)
        chunks = w[:, None].expand(-1, generator.num_ws, -1).split(_CHUNK)
        sums = [generator.synthesis(ws, noise_mode="const").sum(dim=0) for ws in chunks]
        averages.append(torch.stack(sums).sum(dim=0) / len(w))
    return torch.stack(averages) if group is None else torch.stack(averages)[group]
