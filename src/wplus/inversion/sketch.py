"""From a sketch to a picture: only what was drawn is asked for, and the generator makes the rest.

The task of CMU 16-726 (learning-image-synthesis), with three things against what goes wrong there: terms are means over
what was drawn, so that a small sketch counts as much as a large one; what was left open is held, weakly, to the average
picture, which gives a coloured blob an outline; and the prior term keeps the code where the generator has learned
something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from wplus.core.random import rng
from wplus.errors import UserError
from wplus.inversion.objective import ON_SPHERE
from wplus.inversion.optimize import optimize
from wplus.inversion.result import Callback, Inversion
from wplus.latents.latent import Space
from wplus.latents.w_stats import map_samples
from wplus.losses.image_pair import ImageDistance
from wplus.losses.perceptual import PerceptualDistance
from wplus.losses.shape_style import Shape

WEIGHTS = {"l2": 10.0, "perceptual": 2.0, "shape": 30.0, "prior": 0.3}
_NUM_SAMPLES, _PSI = 256, 0.7  # pictures that the average is taken of, and their truncation
_CHUNK = 16


def scribble(
    generator: Any,
    targets: Tensor,
    *,
    space: Space,
    perceptual: PerceptualDistance | None,
    masks: Tensor | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    labels: Tensor | None = None,
    callback: Callback | None = None,
    encoder: Any = None,
    losses: Mapping[str, ImageDistance] | None = None,
    steps: int = 300,
    lr: float | None = None,
    weights: Mapping[str, float] | None = None,
    open_share: float = 0.2,
    start: Literal["mean", "seed", "best_of", "encoder"] = "mean",
    num_candidates: int = 500,
    restarts: int = 0,
    lanes: int | None = None,
) -> Inversion:
    """Sketches -> codes, by Adam. `masks` say how much each pixel was meant: the sketches' opacity.

    The arguments are those of `wplus.inversion.optimize.optimize`, but

    weights     of the terms by name; those not named are `WEIGHTS`. `shape` compares where edges are, see
                `wplus.losses.shape_style`. In z and z+ every code is one of the prior, and that term is left out
    open_share  share of all weight that what was left open has together, from 0 to below 1; there the average picture
                of the generator takes the place of the sketch
    restarts    further attempts from random samples: of several cats that fit the sketch, the one that fits it best

    UserError without masks.
    """
    if masks is None:
        raise UserError("A sketch counts where it was drawn: add masks=alpha, and leave the rest of it transparent.")
    if not 0 <= open_share < 1:
        raise UserError(f"open_share={open_share} is not allowed: it must be from 0 to below 1.")
    average = average_pictures(generator, None if labels is None else labels.to(targets.device))
    whole, importance = completed(targets, masks.to(targets.device), average, open_share)
    chosen = {**WEIGHTS, **(weights or {})}
    if space in ON_SPHERE:
        chosen["prior"] = 0.0
    return optimize(
        generator, whole, space=space, perceptual=perceptual, seed=seed, names=names, labels=labels, callback=callback,
        encoder=encoder, masks=importance, losses={"shape": Shape().to(targets.device), **(losses or {})}, steps=steps,
        lr=lr, weights=chosen, start=start, num_candidates=num_candidates, restarts=restarts, lanes=lanes,
    )  # fmt: skip


def completed(targets: Tensor, masks: Tensor, average: Tensor, open_share: float) -> tuple[Tensor, Tensor]:
    """Sketches (N, C, R, R) on the average picture, and how much each pixel of them counts, at most 1: (N, 1, R, R).

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
def average_pictures(generator: Any, labels: Tensor | None) -> Tensor:
    """The average of pictures of samples that are always the same: (1, C, R, R), or (N, C, R, R) by labels (N, c_dim).

    It has the colours that pictures have on average where they have them, and no edges of one picture.
    """
    if labels is None:
        return _average_picture(generator, None)[None]
    distinct, group = labels.unique(dim=0, return_inverse=True)
    return torch.stack([_average_picture(generator, label) for label in distinct])[group]


def _average_picture(generator: Any, label: Tensor | None) -> Tensor:
    z = torch.randn(_NUM_SAMPLES, generator.z_dim, generator=rng(123, "average picture"))
    average = generator.mapping.w_avg
    w = average + _PSI * (map_samples(generator, z, label) - average)
    chunks = w[:, None].expand(-1, generator.num_ws, -1).split(_CHUNK)
    sums = [generator.synthesis(ws, noise_mode="const").sum(dim=0) for ws in chunks]
    return torch.stack(sums).sum(dim=0) / len(w)
