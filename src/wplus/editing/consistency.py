"""Effects of edits: latent editing consistency of an inverter, and how far images move.

Latent editing consistency (Tov et al. 2021, https://arxiv.org/abs/2102.02766, section 5.3) makes a round trip: a latent
w is edited, its image inverted again, and the edit undone, || w - undo(invert(G(do(w)))) ||. An inverter whose latents
follow edits returns to its starting point. Spaces that map to w+ are compared there; s and f/w+, where the same edit is
a different shift, in their own standard deviations. Distances between images are comparable across all spaces.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.batching import whole_batches
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.progress import track
from wplus.core.stats import bootstrap_interval, bootstrap_mean, kept_mean
from wplus.editing.directions import AnyDirection, edit_latent
from wplus.errors import UserError
from wplus.latents.latent import Latent, decode, synthesize
from wplus.latents.space import LatentSpace
from wplus.latents.w_stats import sample_w
from wplus.losses.image_pair import ImageDistance
from wplus.models.generator import GeneratorNetwork
from wplus.pretrained.seen import marked_result

Inverter = Callable[[Tensor], Tensor]
"""Images (N, C, R, R), about [-1, 1] -> their codes (N, ...)."""

_LEC = (
    "Latent editing consistency: distance of a latent from itself after an edit, a new inversion of its image and "
    "undoing the edit{}; 0 for an inverter that follows the edit."
)
LEC, LEC_ALL, LEC_PER_STD = (
    MetricInfo(meaning=_LEC.format(words), direction="lower")
    for words in (
        ", mean from the 1st to the 99th percentile of images",
        ", mean over all images",
        ", over the deviation of codes from their mean, to compare generators",
    )
)
LEC_PER_EDIT = MetricInfo(
    meaning="Latent editing consistency divided by the length of the edit: 0 for an inverter that follows the edit, 1 "
    "for one that returns the old latent of every image.",
    direction="lower",
)
LEC_IMAGE = MetricInfo(
    meaning="Latent editing consistency in image space: perceptual distance of an inverted image from itself after an "
    "edit, a new inversion and undoing the edit, mean over images; 0 for an inverter that follows the edit.",
    direction="lower",
)
MOVED = MetricInfo(meaning="Perceptual distance by which one unit of strength moves an image, mean over images.")


@dataclass(frozen=True)
class Errors:
    """Errors after an edit and its reversal: (N,) float64 each, on the CPU."""

    norms: Tensor
    """Norms of the differences of codes, see `LatentSpace.length`."""
    lengths: Tensor
    """Norms of the edit, measured in the same way."""
    images: Tensor
    """Perceptual distances of images."""


@torch.no_grad()
def edit_errors(
    generator: GeneratorNetwork, codes: Tensor, *, space: LatentSpace, invert: Inverter, edits: Mapping[str, Tensor],
    distance: ImageDistance, batch_size: int = 16,
) -> dict[str, Errors]:  # fmt: skip
    """Edit -> errors of each code after the edit and its reversal.

    Codes (N, ...) of the space, w+ or one without ws, are those `invert` found for images; `edits` maps names to shifts
    of ws (num_ws, w_dim), as returned by `Direction.shift`.
    """
    device = generator.mapping.w_avg.device
    batches = codes.to(device).split(batch_size)
    found = {}
    for name, shift in edits.items():
        parts = [
            _there_and_back(generator, some, space, invert, shift.to(device), distance)
            for some in track(batches, "Editing there and back (batches)")
        ]
        found[name] = Errors(*(torch.cat(rows).double().cpu() for rows in zip(*parts, strict=True)))
    return found


def _there_and_back(
    generator: GeneratorNetwork, codes: Tensor, space: LatentSpace, invert: Inverter, shift: Tensor,
    distance: ImageDistance,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """|| code - undo(invert(G(do(code)))) ||, || do(code) - code ||, and the distance of both images: each (N,)."""

    def draw(some: Tensor) -> Tensor:
        return generator.synthesis(decode(some, str(space), generator), noise_mode="const")

    there = space.edited(codes, shift, generator)
    with torch.enable_grad():  # an inverter may optimise
        again = invert(draw(there)).detach().to(codes)
    back = space.edited(again, -shift, generator)
    norms, lengths = (space.length(each - codes, generator) for each in (back, there))
    return norms, lengths, distance(draw(back), draw(codes))


def consistency(
    models: Models, errors: Mapping[str, Errors], *, space: LatentSpace, seed: int = 0,
    protocol: Mapping[str, Any] | None = None,
) -> Iterator[MetricResult]:  # fmt: skip
    """Latent editing consistency from the `edit_errors` of each edit, with bootstrap intervals over images:

        lec_EDIT           the mean from the 1st to the 99th percentile. The published number filters means over
                           batches; here images are filtered individually, so that the batch size has no effect. Lengths
                           in spaces other than w+ are called lec_EDIT_in_s, ..., and lec_EDIT_in_s_all
        lec_EDIT_all       the mean over all images
        lec_EDIT_per_edit  lec divided by the length of the edit; omitted if that is 0 (a second inversion only)
        lec_EDIT_per_std   lec divided by the deviation of codes from their mean, in w+ that of w in all layers
        lec_EDIT_image     distance of the images, as measured by `edit_errors`

    `protocol` describes the inverter, the images and the distance.
    """
    deviation = _deviation(models.generator, space, seed=seed)
    for name, found in errors.items():
        norms, lengths = found.norms.numpy(), found.lengths.numpy()
        known = {
            "generator": models.fingerprint,
            "compared_in": str(space),
            "edit_norm": float(lengths.mean()),
            "prior_deviation": deviation,
            "num_images": len(norms),
            "seed": seed,
            "interval": "95 %, percentile bootstrap over images, 1000 resamples",
            **(protocol or {}),
        }
        filtered = known | {"kept": "1st to 99th percentile of images"}
        place = in_space(space)
        numbers = [(place, LEC, norms), (f"{place}_all", LEC_ALL, norms), ("_per_std", LEC_PER_STD, norms / deviation),
                   ("_image", LEC_IMAGE, found.images.numpy())]  # fmt: skip
        if lengths.all():
            numbers.insert(2, ("_per_edit", LEC_PER_EDIT, norms / lengths))
        for suffix, info, values in numbers:
            mean, how = (_mean, known) if info in (LEC_ALL, LEC_IMAGE) else (kept_mean, filtered)
            interval = bootstrap_interval(values, mean, seed=seed) if len(values) > 1 else None
            result = MetricResult.of(info, f"lec_{name}{suffix}", float(mean(values)), protocol=how, interval=interval)
            yield marked_result(result, models.saw) if info is LEC_IMAGE else result


def in_space(space: LatentSpace) -> str:
    """Suffix for the names of lengths that are not comparable with those of w+: `_in_s`, `_in_f16wplus`."""
    return "" if space.has_ws else f"_in_{space}".replace("/", "").replace("+", "plus")


def _deviation(generator: GeneratorNetwork, space: LatentSpace, *, seed: int) -> float:
    """Root of the expected squared length of a code's difference from the mean."""
    if space.scale(generator) is None:
        return math.sqrt(generator.num_ws) * prior_deviation(generator, seed=seed)
    return math.sqrt(math.prod(space.shape(generator)))  # every number in units of its own


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
    """moved_DIRECTION: perceptual distance by which edits move an image, divided by |strength|, with the stored noise.

    The mean over images and strengths, with a bootstrap interval over images. Strengths are in units of the direction;
    0 is ignored.
    """
    steps = [strength for strength in strengths if strength]
    if not steps:
        raise UserError(f"strengths must have one other than 0, got {list(strengths)}.")
    for direction in directions:
        batches = whole_batches(latents, batch_size)
        moved = torch.cat([_moved(models.generator, some, direction, steps, perceptual) for some in batches])
        moved = moved[: len(latents)]
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
    """Distance of each edited image from the original, divided by |strength|, mean over strengths: (N,)."""
    given = [replace(latent, noise=None) for latent in latents]
    before, moved = distance.features(synthesize(given, generator)), []
    for strength in strengths:
        edited = [edit_latent(latent, generator, direction, strength) for latent in given]
        images = synthesize(edited, generator)
        moved.append(distance.distance(distance.features(images), before) / abs(strength))
    return torch.stack(moved).mean(dim=0)
