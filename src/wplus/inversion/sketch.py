"""From a sketch to an image: only what was drawn is asked for, and the generator makes the rest.

The task of CMU 16-726 (learning-image-synthesis), with three things against what goes wrong there: terms are means over
what was drawn, so that a small sketch counts as much as a large one; what was left open is held weakly to the average
image, which gives a blob an outline; the prior term keeps the latent where the generator has learned something.
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
_NUM_SAMPLES, _PSI = 256, 0.7  # images that the average is taken of, and their truncation
_CHUNK = 16


def sketch(
    task: InversionTask,
    *,
    num_steps: int = 300,  # updates, by Adam
    lr: float = 0.3,  # peak of its schedule
    loss_weights: Mapping[str, float] = SKETCH_WEIGHTS,  # `shape`: where edges are; `prior`, in w: it remains a cat
    open_share: float = 0.2,  # of all weight, for what was left open: it is held to the average image; below 1
    init: Literal["mean", "seed", "best_of_n", "encoder"] = "mean",  # mean | seed (random) | best_of_n | encoder
    num_candidates: int = 500,  # samples that best_of_n chooses from
    restarts: int = 0,  # further attempts: of several cats that fit the sketch, the one that fits it best
) -> Inversion:
    """Sketches -> latents, by Adam. The task's masks say how much each pixel was meant: the sketches' opacity.

    In z and z+ every latent is one of the prior, and that term is left out. UserError without masks.
    """
    if task.masks is None:
        raise UserError("inverter=sketch needs masks, got none: add masks=alpha, and leave what is open transparent.")
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
    """Sketches (N, C, R, R) on the average image, and how much each pixel of them counts, at most 1: (N, 1, R, R).

    What was drawn weighs 1 - open_share in all, by its masks (N, 1, R, R), and what was left open weighs open_share,
    however large they are. A pixel of both aims at the mean by weight, which is what both squared differences together
    do; so a thin paint keeps its colour.
    """
    area = masks.mean(dim=(1, 2, 3), keepdim=True)
    drawn = (1 - open_share) * masks / area.clamp_min(1e-6)
    left = open_share * (1 - masks) / (1 - area).clamp_min(1e-6)
    weights = drawn + left
    whole = (drawn * targets + left * average) / weights.clamp_min(1e-6)
    return whole, weights / weights.amax(dim=(1, 2, 3), keepdim=True)


@torch.no_grad()
def average_images(generator: GeneratorNetwork, labels: Tensor | None) -> Tensor:
    """The average of images of samples that are always the same: (1, C, R, R), or (N, C, R, R) by labels (N, c_dim).

    It has the colours that images have on average where they have them, and no edges of one image.
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
