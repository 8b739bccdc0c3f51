"""Nearest-neighbour probe: shows whether generated images are copies of training images."""

import torch
from torch import Tensor

from wplus.core.metric_result import MetricInfo
from wplus.errors import check_number
from wplus.evaluation.pairwise import Neighbours, PairPass
from wplus.probes.grids import labelled_grid
from wplus.probes.probe import ProbeContext
from wplus.training.snapshot import Picture, ProbeResult, at

NEAREST = MetricInfo(
    meaning="Median distance of a generated image to the nearest training image, over that of a held-out image: "
    "about 1 for new images of the same kind, near 0 for copies of training images."
)


def neighbours(
    context: ProbeContext, *, num_images: int = 500, num_real: int | None = 2000, k: int = 6, num_rows: int = 4
) -> ProbeResult:
    """Show generated images with their k nearest training images in the extractor's features, and the distances.

    The first rows show those of `num_images` generated images that are closest to a training image, where copies would
    show up; the other rows show the first images, unselected. `num_real` training images are searched (None: all).

    Value, if there are held-out images: probe/nearest_<extractor>, see `NEAREST`.
    """
    for name, value in {"num_images": num_images, "num_real": num_real or 1, "k": k, "num_rows": num_rows}.items():
        check_number(name, value, lowest=1, whole=True)
    num_train = len(context.data.train)
    num_real = num_train if num_real is None else min(num_real, num_train)
    known = context.features("train", num_real)
    distances, nearest = nearest_of(context.features("generated", num_images), known, min(k, num_real))
    closest = distances[:, 0].argsort(stable=True)[:num_rows].tolist()
    chosen = [*closest, *range(min(num_rows, num_images))]
    generated, real = context.images("generated", num_images), context.images("train", num_real)
    picture = labelled_grid(
        [[generated[number], *real[nearest[number]]] for number in chosen],
        captions=[["", *(f"{distance:.3g}" for distance in distances[number].tolist())] for number in chosen],
        left=[f"closest\nof {num_images}"] * len(closest) + ["as they\ncome"] * (len(chosen) - len(closest)),
        top=["generated", "nearest", *(str(number + 2) for number in range(k - 1))],
        breaks=[len(closest)],
    )
    searched = f"{num_real} of {num_train}" if num_real < num_train else f"all {num_real}"
    extractor = context.data.extractor.name
    caption = f"generated images and the nearest of {searched} training images, with distances by {extractor}"
    values = {}
    if context.data.held_out is not None:
        unseen = float(nearest_of(context.features("held_out", num_images), known, 1)[0].median())
        if unseen:
            values = {
                context.of_extractor(f"probe/nearest_{extractor}"): (float(distances[:, 0].median()) / unseen, NEAREST)
            }
    return ProbeResult([Picture(f"{at(context.module)}-neighbours", "samples/neighbours", caption, picture)], values)


def nearest_of(vectors: Tensor, known: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return distances (N, k) of vectors (N, dim) to their k nearest of `known` (M, dim), ascending, and indices."""
    numbers = PairPass(lambda: vectors, lambda: known).ask(Neighbours(k)).value.numbers
    # Computed from differences, which keeps full precision even for near copies.
    vectors, known = vectors.double(), known.double()
    distances = [torch.linalg.vector_norm(x - known[near], dim=1) for x, near in zip(vectors, numbers, strict=True)]
    return torch.stack(distances), numbers
