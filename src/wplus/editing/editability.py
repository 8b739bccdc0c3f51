"""How much an edit does: how far pictures move for a unit of strength, and how often an attribute changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wplus.core.metric_result import MetricResult
from wplus.core.stats import bootstrap_mean
from wplus.editing.apply import edit_ws
from wplus.editing.directions import Direction
from wplus.errors import UserError

Classifier = Callable[[Tensor], Tensor]
"""Images (N, C, R, R), about [-1, 1] -> class numbers or booleans (N,)."""


def editability(
    models: Any,
    ws: Tensor,
    *,
    directions: Sequence[Direction],
    perceptual: Any,
    strengths: Sequence[float] = (-1.0, 1.0),
    classify: Classifier | None = None,
    batch_size: int = 16,
    protocol: Mapping[str, Any] | None = None,
) -> Iterator[MetricResult]:
    """Yield what edits of the codes ws (N, num_ws, w_dim) do to their pictures, for each direction.

        moved_DIRECTION    perceptual distance from the unedited picture over |strength|, mean over images and
                           strengths; the distance's name is in the protocol
        flipped_DIRECTION  share of images whose class changes, mean over strengths; with `classify` only

    each with a 95 % bootstrap interval over images. Strengths are units of the direction; 0 is left out.
    """
    steps = [strength for strength in strengths if strength]
    if not steps:
        raise UserError(f"Editability needs a strength other than 0, got {list(strengths)}.")
    for direction in directions:
        moved, flipped = _effects(models.generator, ws, direction, steps, perceptual, classify, batch_size)
        known = {
            "generator": models.fingerprint,
            "strengths": steps,
            "layers": list(direction.layers),
            "num_images": len(ws),
            "interval": "95 %, percentile bootstrap over images, 2000 resamples",
            **(protocol or {}),
        }
        distance = {"distance": perceptual.name, "distance_provenance": dict(perceptual.provenance)}
        yield _measurement(f"moved_{direction.name}", moved, known | distance)
        if classify is not None:
            yield _measurement(f"flipped_{direction.name}", flipped, known)


@torch.no_grad()
def _effects(generator: Any, ws: Tensor, direction: Direction, strengths: Sequence[float], perceptual: Any,
             classify: Classifier | None, batch_size: int) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Of every image, means over strengths: distance per unit (N,), and share of changed classes (N,)."""
    moved, flipped = [], []
    for codes in ws.to(generator.mapping.w_avg.device).split(batch_size):
        before = generator.synthesis(codes, noise_mode="const")
        after = [generator.synthesis(edit_ws(codes, direction, value), noise_mode="const") for value in strengths]
        features = perceptual.features(before)
        distances = [perceptual.distance(perceptual.features(images), features) for images in after]
        moved.append(torch.stack([d / abs(value) for d, value in zip(distances, strengths, strict=True)]).mean(dim=0))
        if classify is not None:
            old = classify(before)
            flipped.append(torch.stack([classify(images) != old for images in after]).double().mean(dim=0))
    return torch.cat(moved).cpu(), torch.cat(flipped).cpu() if flipped else torch.empty(0)


def _measurement(name: str, values: Tensor, protocol: dict[str, Any]) -> MetricResult:
    mean = bootstrap_mean(values.tolist())
    return MetricResult(name, mean.value, protocol, mean.interval)
