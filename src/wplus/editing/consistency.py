"""Effects of edits: latent editing consistency of an inverter, and how far images move.

Latent editing consistency (Tov et al. 2021, https://arxiv.org/abs/2102.02766, section 5.3) edits there and back: a
latent w is edited, its image inverted anew, and the edit undone, || w - undo(invert(G(do(w)))) ||. An inverter whose
latents follow edits comes back to where it started. Spaces that lead to w+ are compared there; s and f/w+, in which the
same edit is another shift, in deviations of their own. What compares all of them is how far the image is from itself.
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
    "Latent editing consistency: how far a latent is from itself after an edit, a new inversion of its image and the "
    "edit undone{}; 0 for an inverter that follows the edit."
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
    meaning="Latent editing consistency over the length of the edit: 0 for an inverter that follows the edit, 1 for "
    "one that answers every image with its old latent.",
    direction="lower",
)
LEC_IMAGE = MetricInfo(
    meaning="Latent editing consistency as one sees it: perceptual distance of an inverted image from itself after an "
    "edit, a new inversion and the edit undone, mean over images; 0 for an inverter that follows the edit.",
    direction="lower",
)
MOVED = MetricInfo(meaning="Perceptual distance that one unit of an edit's strength moves an image, mean over images.")


@dataclass(frozen=True)
class Errors:
    """What images are off by after an edit and back: (N,) float64 each, on the CPU."""

    norms: Tensor
    """Of the codes' differences, see `LatentSpace.length`."""
    lengths: Tensor
    """Of the edit, measured alike."""
    images: Tensor
    """Perceptual distances."""


@torch.no_grad()
def edit_errors(
    generator: GeneratorNetwork, codes: Tensor, *, space: LatentSpace, invert: Inverter, edits: Mapping[str, Tensor],
    distance: ImageDistance, batch_size: int = 16,
) -> dict[str, Errors]:  # fmt: skip
    """Edit -> what each code is off by after the edit and back.

    Codes (N, ...) of the space, w+ or one without ws, are what `invert` found for images; `edits` says what is added to
    ws, name -> (num_ws, w_dim), as `Direction.shift` gives it.
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
    """|| code - undo(invert(G(do(code)))) || of each, || do(code) - code ||, and the distance of both images: (N,)."""

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
                           batches; here every image counts for itself, so that the batch size changes nothing. Lengths
                           that are not those of w+ are called lec_EDIT_in_s, ..., and lec_EDIT_in_s_all
        lec_EDIT_all       the mean of all
        lec_EDIT_per_edit  lec over the length of the edit; left out where that is 0: the second inversion alone
        lec_EDIT_per_std   lec over the deviation of codes from their mean, in w+ that of w in all layers
        lec_EDIT_image     of the images, in the distance of `edit_errors`

    `protocol` is what the caller knows of the inverter, the images and the distance.
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
    """What the names of lengths end in that do not compare with those of w+: `_in_s`, `_in_f16wplus`."""
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
    """moved_DIRECTION: perceptual distance that edits of latents move an image, over |strength|, all with stored noise.

    The mean over images and strengths, with a bootstrap interval over images. Strengths are units of the direction; 0
    is left out.
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
    """Distance of each image from itself unedited, over |strength|, mean over strengths: (N,)."""
    given = [replace(latent, noise=None) for latent in latents]
    before, moved = distance.features(synthesize(given, generator)), []
    for strength in strengths:
        edited = [edit_latent(latent, generator, direction, strength) for latent in given]
        images = synthesize(edited, generator)
        moved.append(distance.distance(distance.features(images), before) / abs(strength))
    return torch.stack(moved).mean(dim=0)
