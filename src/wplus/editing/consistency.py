"""Effects of edits: latent editing consistency of an inverter, and how far images move.

Latent editing consistency (Tov et al. 2021, https://arxiv.org/abs/2102.02766, section 5.3) edits there and back: a
latent w is edited, its image inverted anew, and the edit undone, || w - undo(invert(G(do(w)))) ||. An inverter whose
latents follow edits comes back to where it started.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.progress import track
from wplus.core.stats import bootstrap_interval, bootstrap_mean, kept_mean
from wplus.editing.directions import AnyDirection, edit_latent
from wplus.errors import UserError
from wplus.latents.latent import Latent, synthesize
from wplus.latents.w_stats import sample_w
from wplus.losses.image_pair import ImageDistance
from wplus.models.network import GeneratorNetwork
from wplus.pretrained.seen import marked_result

Inverter = Callable[[Tensor], Tensor]
"""Images (N, C, R, R), about [-1, 1] -> their ws (N, num_ws, w_dim)."""

_LEC = (
    "Latent editing consistency: how far a latent is from itself after an edit, a new inversion of its image and the "
    "edit undone{}; 0 for an inverter that follows the edit."
)
LEC, LEC_ALL, LEC_PER_STD = (
    MetricInfo(meaning=_LEC.format(words), direction="lower")
    for words in (
        ", mean from the 1st to the 99th percentile of images",
        ", mean over all images",
        ", over the deviation of w from its mean, to compare generators",
    )
)
LEC_PER_EDIT = MetricInfo(
    meaning="Latent editing consistency over the length of the edit: 0 for an inverter that follows the edit, 1 for "
    "one that answers every image with its old latent.",
    direction="lower",
)
MOVED = MetricInfo(meaning="Perceptual distance that one unit of an edit's strength moves an image, mean over images.")


@torch.no_grad()
def edit_errors(
    generator: GeneratorNetwork, ws: Tensor, *, invert: Inverter, edits: Mapping[str, Tensor], batch_size: int = 16
) -> dict[str, Tensor]:
    """Edit -> norm over (num_ws, w_dim) of what each latent is off by after the edit and back, (N,) float64, CPU.

    ws (N, num_ws, w_dim) are what `invert` found for images; `edits` says what is added to them, name -> (num_ws,
    w_dim), as `Direction.shift` gives it.
    """
    errors, device = {}, generator.mapping.w_avg.device
    for name, shift in edits.items():
        norms, shift = [], shift.to(device)
        for some in track(ws.to(device).split(batch_size), "Editing there and back (batches)"):
            images = generator.synthesis(some + shift, noise_mode="const")
            with torch.enable_grad():  # an inverter may optimise
                again = invert(images).detach().to(device)
            norms.append((some - (again - shift)).double().flatten(1).norm(dim=1).cpu())
        errors[name] = torch.cat(norms)
    return errors


def consistency(
    models: Models, errors: Mapping[str, Tensor], *, edits: Mapping[str, Tensor], seed: int = 0,
    protocol: Mapping[str, Any] | None = None,
) -> Iterator[MetricResult]:  # fmt: skip
    """Latent editing consistency from the `edit_errors` of each edit, with bootstrap intervals over images:

        lec_EDIT           the mean from the 1st to the 99th percentile. The published number filters means over
                           batches; here every image counts for itself, so that the batch size changes nothing
        lec_EDIT_all       the mean of all
        lec_EDIT_per_edit  lec over the norm of the edit; left out where that is 0: the second inversion alone
        lec_EDIT_per_std   lec over the deviation of w from its mean, in all layers

    `protocol` is what the caller knows of the inverter and the images.
    """
    deviation = math.sqrt(models.generator.num_ws) * prior_deviation(models.generator, seed=seed)
    for name, shift in edits.items():
        norms, length = errors[name].numpy(), float(shift.norm())
        known = {
            "generator": models.fingerprint,
            "edit_norm": length,
            "prior_deviation": deviation,
            "num_images": len(norms),
            "seed": seed,
            "interval": "95 %, percentile bootstrap over images, 1000 resamples",
            **(protocol or {}),
        }
        filtered = known | {"kept": "1st to 99th percentile of images"}
        numbers = [("", LEC, norms), ("_all", LEC_ALL, norms), ("_per_std", LEC_PER_STD, norms / deviation)]
        if length:
            numbers.insert(2, ("_per_edit", LEC_PER_EDIT, norms / length))
        for suffix, info, values in numbers:
            mean, how = (_mean, known) if info is LEC_ALL else (kept_mean, filtered)
            interval = bootstrap_interval(values, mean, seed=seed) if len(values) > 1 else None
            yield MetricResult.of(info, f"lec_{name}{suffix}", float(mean(values)), protocol=how, interval=interval)


def _mean(rows: np.ndarray) -> np.ndarray:
    return rows.mean(axis=-1)


def prior_deviation(generator: GeneratorNetwork, *, seed: int = 0, num_samples: int = 10_000) -> float:
    """Root of the expected squared distance of w from its mean."""
    w = sample_w(generator, num_samples, seed=seed)
    return float((w - w.mean(dim=0)).square().sum(dim=1).mean().sqrt())


@torch.no_grad()
def editability(
    models: Models, latents: Sequence[Latent], *, directions: Sequence[AnyDirection], perceptual: ImageDistance,
    strengths: Sequence[float] = (-1.0, 1.0), batch_size: int = 16, protocol: Mapping[str, Any] | None = None,
) -> Iterator[MetricResult]:  # fmt: skip
    """moved_DIRECTION: perceptual distance that edits of latents move an image, over |strength|, all with stored noise.

    The mean over images and strengths, with a bootstrap interval over images. Strengths are units of the direction; 0
    is left out.
    """
    steps = [strength for strength in strengths if strength]
    if not steps:
        raise UserError(f"strengths must have one other than 0, got {list(strengths)}")
    for direction in directions:
        batches = [latents[first : first + batch_size] for first in range(0, len(latents), batch_size)]
        moved = torch.cat([_moved(models.generator, some, direction, steps, perceptual) for some in batches])
        known = {
            "generator": models.fingerprint,
            "strengths": steps,
            "where": direction.where,
            "num_images": len(latents),
            "interval": "95 %, percentile bootstrap over images, 2000 resamples",
            **(protocol or {}),
            "distance": perceptual.name,
            "distance_provenance": dict(perceptual.provenance),
        }
        mean, name = bootstrap_mean(moved.tolist()), f"moved_{direction.name}"
        moved_by = MetricResult.of(MOVED, name, mean.value, protocol=known, interval=mean.interval)
        yield marked_result(moved_by, models.saw)


def _moved(
    generator: GeneratorNetwork, latents: Sequence[Latent], direction: AnyDirection, strengths: Sequence[float],
    distance: ImageDistance,
) -> Tensor:  # fmt: skip
    """Distance of each image from itself unedited, over |strength|, mean over strengths: (N,)."""
    given = [replace(latent, noise=None) for latent in latents]
    before, moved = distance.features(synthesize(given, generator)), []
    for strength in strengths:
        edited = [edit_latent(latent, generator, direction, strength) for latent in given]
        images = synthesize(edited, generator)
        moved.append(distance.distance(distance.features(images), before) / abs(strength))
    return torch.stack(moved).mean(dim=0)
