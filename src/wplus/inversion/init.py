"""Initial latents of an inversion: the mean latent, a seed, the best of many samples, or an encoder's prediction."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from wplus.core.random import normal, rng
from wplus.errors import check_choice, check_number
from wplus.inversion.encoder import encode_chunks
from wplus.inversion.objective import Objective
from wplus.inversion.task import InversionTask
from wplus.latents.space import LatentSpace
from wplus.latents.w_stats import map_samples
from wplus.models.generator import GeneratorNetwork

INITS = ("mean", "seed", "best_of_n", "encoder")
_CANDIDATES_AT_ONCE = 16


class Prior(NamedTuple):
    """The latent prior of N images: mean (N, ...) in the space, and total deviation (N,) of one layer.

    For w and w+, the mean w and the root of the expected squared distance from it (NVlabs' w_std). For z and z+, where
    the mean is not meaningful, the sample whose w is nearest to the mean w, and sqrt(z_dim). For whitened spaces, the
    mean w, so that all spaces start at the same image, and sqrt(w_dim).
    """

    mean: Tensor
    std: Tensor


@torch.no_grad()
def prior(
    generator: GeneratorNetwork, space: LatentSpace, labels: Tensor | None, num: int, *, num_samples: int = 10_000
) -> Prior:
    """The prior of `num` images, estimated from fixed samples of z for each distinct label.

    A conditional generator without labels (possible after the mapping network) is sampled evenly over its classes.
    """
    z, found = torch.randn(num_samples, generator.z_dim, generator=rng(123, "prior")), {}
    for members, label in _by_label(labels, num):
        w = map_samples(generator, z, label)
        mean = w.mean(dim=0)
        distances = (w - mean).square().sum(dim=1)
        std = distances.mean().sqrt()
        if space.is_before_mapping:
            mean, std = z[distances.argmin().cpu()].to(w), w.new_tensor(math.sqrt(generator.z_dim))
        elif space.is_white:
            std = w.new_tensor(math.sqrt(generator.w_dim))
        found.update(dict.fromkeys(members.tolist(), (space.from_vectors(mean[None], generator), std)))
    means, stds = zip(*[found[index] for index in range(num)], strict=True)
    return Prior(torch.cat(means), torch.stack(stds))


@torch.no_grad()
def initial_latents(
    task: InversionTask, prior: Prior, *, init: str, num_candidates: int, weights: Mapping[str, float]
) -> Tensor:
    """Latents (N, ...) to start from; the task's own `start` takes precedence.

    Args:
        init: mean, the prior's mean; seed, a random sample per image, from the seed and the image's name; best_of_n,
            the one with the lowest loss for each image among the mean and `num_candidates` samples (shared by all
            images, so that their images are computed once per label); encoder, the prediction of the task's encoder.
        weights: of the loss, for best_of_n.
    """
    check_choice("init", init, INITS)
    if task.start is not None:
        return task.start.clone()
    if init == "encoder":
        return encode_chunks(task)
    if init == "mean":
        return prior.mean.clone()
    if init == "best_of_n":
        check_number("num_candidates", num_candidates, lowest=1, whole=True)
        return _best_candidates(Objective(task, weights), prior.mean, num_candidates)
    samples = normal(task.seed, task.names, "start", (task.generator.z_dim,), task.device)
    if not task.latent_space.is_before_mapping:
        labels = [None] * len(samples) if task.labels is None else task.labels.split(1)
        # One by one: the rounding of a matrix product depends on the number of its rows.
        rows = zip(samples.split(1), labels, strict=True)
        samples = torch.cat([map_samples(task.generator, z, label) for z, label in rows])
    # Also one by one: maps of F/W+ come from convolutions.
    return torch.cat([task.latent_space.from_vectors(each, task.generator) for each in samples.split(1)])


def _best_candidates(objective: Objective, mean: Tensor, num_candidates: int) -> Tensor:
    """The latents (N, ...) with the lowest loss per image, among its mean and `num_candidates` random samples."""
    task, best = objective.task, mean.clone()
    generator, space = task.generator, task.latent_space
    z = torch.randn(num_candidates, generator.z_dim, generator=rng(task.seed, "candidates")).to(best)
    for members, label in _by_label(task.labels, len(best)):
        samples = space.from_vectors(z if space.is_before_mapping else map_samples(generator, z, label), generator)
        latents = torch.cat([mean[members[:1]], samples])  # (1 + candidates, ...)
        some = latents.split(_CANDIDATES_AT_ONCE)
        losses = torch.cat([objective.losses_of_each(chunk, members, label) for chunk in some])
        best[members] = latents[losses.argmin(dim=0)]
    return best


def _by_label(labels: Tensor | None, num: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Groups of images with the same label: their indices and the label (c_dim,)."""
    if labels is None:
        yield torch.arange(num), None
        return
    distinct, group = labels.unique(dim=0, return_inverse=True)
    for index, label in enumerate(distinct):
        yield (group == index).nonzero()[:, 0].cpu(), label
