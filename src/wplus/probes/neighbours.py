"""Are generated images copies of training images: the nearest ones beside them."""

from __future__ import annotations

import torch
from torch import Tensor

from wplus.errors import check_number
from wplus.probes.drawing import matrix
from wplus.probes.scene import ProbeContext
from wplus.training.snapshot import Picture, ProbeResult, at


def neighbours(
    scene: ProbeContext, *, num_images: int = 500, num_real: int | None = 2000, k: int = 6, num_rows: int = 4
) -> ProbeResult:
    """Generated images with the k training images that are nearest in the extractor's features, distances under them.

    The first rows are those of `num_images` generated ones that are nearest to a training image, where copies would
    show; the others are the first of all, as they come. Among `num_real` training images is searched (None: all).

    Value, where there are held-out images: watch/nearest_<extractor>, the median distance of a generated image to its
    nearest training image over that of a held-out one. Far below 1 the generator draws what it has seen.
    """
    for name, value in {"num_images": num_images, "num_real": num_real or 1, "k": k, "num_rows": num_rows}.items():
        check_number(name, value, lowest=1, whole=True)
    num_real = len(scene.data) if num_real is None else min(num_real, len(scene.data))
    real = scene.features("train", num_real)
    distances, nearest = nearest_of(scene.features("generated", num_images), real, min(k, num_real))
    closest = distances[:, 0].argsort(stable=True)[:num_rows].tolist()
    first = list(range(min(num_rows, num_images)))
    images, known = scene.generated(num_images), scene.real(num_real)
    rows = [
        [
            (images[number], ""),
            *zip(known[nearest[number]], map("{:.3g}".format, distances[number].tolist()), strict=True),
        ]
        for number in [*closest, *first]
    ]
    left = [f"closest\nof {num_images}"] * len(closest) + ["as they\ncome"] * len(first)
    top = ["generated", "nearest", *(str(number + 2) for number in range(k - 1))]
    picture = matrix(rows, left=left, top=top, breaks=[len(closest)])
    searched = f"{num_real} of {len(scene.data)}" if num_real < len(scene.data) else f"all {num_real}"
    caption = (
        f"generated images and the nearest of {searched} training images, with distances by {scene.extractor.name}"
    )
    return ProbeResult(
        [Picture(f"{at(scene.game)}-neighbours", "samples/neighbours", caption, picture)],
        _against_held_out(scene, distances[:, 0], real, num_images),
    )


def _against_held_out(scene: ProbeContext, distances: Tensor, real: Tensor, num: int) -> dict[str, float]:
    if scene.held_out is None:
        return {}
    unseen = float(nearest_of(scene.features("held_out", num), real, 1)[0].median())
    return {f"watch/nearest_{scene.extractor.name}": float(distances.median()) / unseen} if unseen else {}


def nearest_of(vectors: Tensor, real: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances (N, k) of vectors (N, dim) to the k nearest of real ones (M, dim), ascending, and their numbers."""
    real, found = real.double(), []
    for part in vectors.double().split(256):
        nearest = torch.cdist(part, real).topk(k, dim=1, largest=False).indices
        # Anew, because distances from products of matrices are not 0 where vectors are equal.
        found.append((torch.linalg.vector_norm(part[:, None] - real[nearest], dim=2), nearest))
    return torch.cat([distances for distances, _ in found]), torch.cat([nearest for _, nearest in found])
