"""Where an inversion starts: the mean latent, a seed, the best of many, or what an encoder says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wplus.core.batching import MIN_SHOWN
from wplus.core.random import normal, rng
from wplus.errors import UserError
from wplus.inversion.encoding import encoded
from wplus.inversion.objective import ON_SPHERE, Objective
from wplus.latents.latent import Space
from wplus.latents.w_stats import map_samples

STARTS = ("mean", "seed", "best_of", "encoder")


@dataclass(frozen=True)
class Prior:
    """The latent prior as an inversion needs it.

    Attributes
        mean  (N, ...) in the space: for w and w+ the mean w; for z and z+, whose mean maps to nothing in particular,
              the sample whose w is nearest to that mean
        std   (N,) total deviation of one layer, the root of the expected squared distance from the mean: of w for w
              and w+ (NVlabs' w_std), sqrt(z_dim) for z and z+
    """

    mean: Tensor
    std: Tensor


@torch.no_grad()
def prior(generator: Any, space: Space, labels: Tensor | None, num: int, *, num_samples: int = 10_000) -> Prior:
    """The prior of `num` images from samples of z that are always the same, one set per distinct label.

    A conditional generator without labels (possible in w and w+) is sampled over its classes evenly.
    """
    samples = torch.randn(num_samples, generator.z_dim, generator=rng(123, "prior"))
    found = {}
    for members, label in _by_label(labels, num):
        found.update(dict.fromkeys(members.tolist(), _prior_of(generator, space, samples, label)))
    means, stds = zip(*[found[index] for index in range(num)], strict=True)
    return Prior(torch.stack(means), torch.stack(stds))


def _prior_of(generator: Any, space: Space, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
    w = map_samples(generator, samples, label)
    mean = w.mean(dim=0)
    distances = (w - mean).square().sum(dim=1)
    if space in ON_SPHERE:
        nearest = samples[distances.argmin().cpu()].to(w)
        return _in_space(nearest[None], space, generator.num_ws)[0], w.new_tensor(math.sqrt(generator.z_dim))
    return _in_space(mean[None], space, generator.num_ws)[0], distances.mean().sqrt()


@torch.no_grad()
def start_codes(
    objective: Objective,
    prior: Prior,
    *,
    start: str,
    seed: int,
    names: Sequence[str],
    num_candidates: int,
    lanes: int = 1,
    encoder: Any = None,
) -> Tensor:
    """Codes (N, ...) to start from, for the N targets of `objective`.

    start
        mean     the prior's mean
        seed     a random sample per image, from the seed and the image's name
        best_of  of the mean and `num_candidates` random samples, the one with the lowest loss for each image; the
                 candidates are the same for all images, so that their pictures are made once per label
        encoder  the answer of `encoder` to the targets, in batches of `lanes`; in w and w+ only
    """
    if start not in STARTS:
        raise UserError(f"There is no start '{start}': choose one of {', '.join(STARTS)}.")
    if start == "encoder":
        seen = {"space": objective.space, "lanes": lanes, "masks": objective.masks}
        return encoded(objective.generator, encoder, objective.targets, **seen)
    if start == "mean":
        return prior.mean.clone()
    if start == "seed":
        return _own_samples(objective, seed, names)
    if num_candidates < 1:
        raise UserError(f"num_candidates={num_candidates} is not allowed with start=best_of: it must be 1 or more.")
    return _best_candidates(objective, prior.mean, seed, num_candidates)


def _own_samples(objective: Objective, seed: int, names: Sequence[str]) -> Tensor:
    generator, space = objective.generator, objective.space
    z = normal(seed, names, "start", (generator.z_dim,), objective.targets.device)
    if space in ON_SPHERE:
        return _in_space(z, space, generator.num_ws)
    labels = [None] * len(z) if objective.labels is None else objective.labels.split(1)
    # One by one: the digits of a matrix product depend on the number of its rows.
    w = torch.cat([map_samples(generator, row, label) for row, label in zip(z.split(1), labels, strict=True)])
    return _in_space(w, space, generator.num_ws)


def _best_candidates(objective: Objective, mean: Tensor, seed: int, num_candidates: int) -> Tensor:
    generator, space, best = objective.generator, objective.space, mean.clone()
    z = torch.randn(num_candidates, generator.z_dim, generator=rng(seed, "candidates")).to(best)
    for members, label in _by_label(objective.labels, len(best)):
        samples = _in_space(z if space in ON_SPHERE else map_samples(generator, z, label), space, generator.num_ws)
        codes = torch.cat([mean[members[:1]], samples])  # (1 + candidates, ...)
        losses = torch.cat([objective.losses_of_each(chunk, members, label) for chunk in codes.split(MIN_SHOWN)])
        best[members] = codes[losses.argmin(dim=0)]
    return best


def _by_label(labels: Tensor | None, num: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Groups of images with the same label: their indices and the label (c_dim,)."""
    if labels is None:
        yield torch.arange(num), None
        return
    distinct, group = labels.unique(dim=0, return_inverse=True)
    for index, label in enumerate(distinct):
        yield (group == index).nonzero()[:, 0].cpu(), label


def _in_space(codes: Tensor, space: Space, num_ws: int) -> Tensor:
    """z or w (N, dim) as codes of the space: in z+ and w+ a copy for every layer."""
    return codes[:, None].repeat(1, num_ws, 1) if space.endswith("+") else codes
