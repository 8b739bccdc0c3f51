"""A fixed list of pairs of real images, some near, some far apart: what interpolations are compared on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.core.files import write_json
from wplus.core.images import to_float
from wplus.core.progress import track
from wplus.core.random import rng
from wplus.errors import UserError
from wplus.evaluation.context import Images
from wplus.evaluation.feature_pass import Progress
from wplus.losses.image_pair import ImageDistance

STRATA = ("near", "mid", "far")
_MOST_CANDIDATES = 4000  # pairs whose distance is measured


@dataclass(frozen=True)
class Pair:
    """Two images by name, the perceptual distance between them, and the third of all pairs that it lies in."""

    a: str
    b: str
    stratum: str
    distance: float

    @property
    def name(self) -> str:
        """As walks are called."""
        return f"{self.a} to {self.b}"


@dataclass(frozen=True)
class PairList:
    """Pairs of the images with one fingerprint, and how they were drawn; no image is in two pairs."""

    pairs: tuple[Pair, ...]
    data: str
    """Fingerprint of the set of images."""
    protocol: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """Of the images, first a then b of each pair."""
        return [name for pair in self.pairs for name in (pair.a, pair.b)]

    def save(self, path: str | Path) -> Path:
        """As JSON, whole or not at all."""
        pairs = [{**asdict(pair), "distance": round(pair.distance, 6)} for pair in self.pairs]
        return write_json(path, {"data": self.data, "protocol": dict(self.protocol), "pairs": pairs})


def draw_pairs(
    images: Images, *, num_pairs: int, distance: ImageDistance, seed: int = 0, batch_size: int = 64,
    device: torch.device | str = "cpu", progress: Progress = track, order: str = "digests",
) -> PairList:  # fmt: skip
    """Draw `num_pairs` pairs, as many near as mid and far ones (one more or less), no image twice.

    Images are paired off at random and the distance within each pair is measured; its thirds over all these pairs are
    the strata, and the first pairs of each, in the order of the draw, are taken. No image is in two pairs, so that
    pairs are independent and intervals over pairs are honest.

    The draw is of the images in the `order` of their digests, so that names and order of the files change nothing;
    "files" takes them as they come. The protocol of a list without an order says that it was drawn so.
    """
    if order not in ("digests", "files"):
        raise UserError(f"order={order} is not known; allowed are digests, files.")
    most = len(images) // 2
    if not 3 <= num_pairs <= most:
        raise UserError(f"num_pairs={num_pairs} is not possible: at least 3, and at most {most} of {len(images)} images"
                        " without showing one twice.")  # fmt: skip
    drawn = torch.randperm(len(images), generator=rng(seed, "pairs of images"))[: 2 * min(most, _MOST_CANDIDATES)]
    by_digest = order == "digests"
    candidates = (torch.from_numpy(np.lexsort(images.digests.T[::-1]))[drawn] if by_digest else drawn).view(-1, 2)
    distance = distance.to(device)
    batches = candidates.split(batch_size)
    distances = torch.cat([
        _distances(images, batch, distance, device)
        for batch in progress(batches, "Distances within pairs", total=len(batches))
    ])  # fmt: skip
    strata = _strata(distances, num_pairs)
    chosen = sorted((row, stratum) for stratum, rows in zip(STRATA, strata, strict=True) for row in rows)
    names = images.names
    pairs = tuple(
        Pair(names[candidates[row, 0]], names[candidates[row, 1]], stratum, float(distances[row]))
        for row, stratum in chosen
    )
    protocol = {"seed": seed, "num_candidates": len(candidates), "distance": distance.name, "px": images.resolution,
                "distance_provenance": dict(distance.provenance),
                **({"order": order} if by_digest else {})}  # fmt: skip
    return PairList(pairs, images.fingerprint, protocol)


@torch.no_grad()
def _distances(images: Images, pairs: Tensor, distance: ImageDistance, device: torch.device | str) -> Tensor:
    """Distances (B,) within pairs (B, 2) of image numbers."""
    a, b = (to_float(images.batch(numbers)[0].to(device)) for numbers in pairs.unbind(dim=1))
    return distance(a, b).double().cpu()


def _strata(distances: Tensor, num_pairs: int) -> list[list[int]]:
    """Rows of the first pairs of each third of the distances, num_pairs in all."""
    thirds = distances.argsort(stable=True).tensor_split(len(STRATA))
    counts = [len(part) for part in torch.arange(num_pairs).tensor_split(len(STRATA))]
    return [third.sort().values[:count].tolist() for third, count in zip(thirds, counts, strict=True)]


def read_pairs(path: str | Path, images: Images) -> PairList:
    """A list from its file; UserError where it is damaged or of other images."""
    try:
        content = json.loads(Path(path).read_text())
        pairs = tuple(Pair(**entry) for entry in content["pairs"])
        found = PairList(pairs, content["data"], content["protocol"])
    except FileNotFoundError:
        raise UserError(f"The list of pairs '{path}' does not exist; pairs=draw makes one for any data.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path}' is damaged or no list of pairs ({type(error).__name__}: {error}).") from error
    if found.data != images.fingerprint:
        raise UserError(
            f"The pairs in '{path}' are of the images with fingerprint {found.data}, these have {images.fingerprint}: "
            "pairs=draw makes a list for them."
        )
    _check(found, path, images.names)
    return found


def _check(found: PairList, path: str | Path, names: Sequence[str]) -> None:
    lacking = sorted(set(found.names) - set(names))
    if lacking:
        raise UserError(f"The pairs in '{path}' name an image that is not there: {lacking[0]}.")
    if len(set(found.names)) < len(found.names):
        raise UserError(f"The pairs in '{path}' use an image twice: intervals over pairs need different ones.")
    if not found.pairs:
        raise UserError(f"The list '{path}' has no pairs.")
