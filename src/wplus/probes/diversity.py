"""Do the generated images differ from each other as much as real ones do."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from wplus.core.images import to_float
from wplus.errors import check_number
from wplus.probes.scene import ProbeContext
from wplus.training.snapshot import ProbeResult


def diversity(scene: ProbeContext, *, num_images: int = 1000) -> ProbeResult:
    """Mean distance of two generated images over that of two real ones: 1 is as diverse, 0 a single image.

    Values: watch/diversity_<extractor> of features; watch/diversity_pixels of pixels, root mean square distances. Both
    sides have the same number of images, at most `num_images`.
    """
    check_number("num_images", num_images, lowest=2, whole=True)
    num = min(num_images, len(scene.data))
    if num < 2:
        return ProbeResult()
    features = [scene.features(which, num) for which in ("generated", "train")]
    pixels = [scene.generated(num).clamp(-1, 1), to_float(scene.real(num))]
    return ProbeResult(
        values={
            f"watch/diversity_{scene.extractor.name}": ratio(*map(mean_distance, features)),
            "watch/diversity_pixels": ratio(*map(rms_distance, pixels)),
        }
    )


def mean_distance(vectors: Tensor) -> float:
    """Mean Euclidean distance of two different ones of (N, dim), N > 1."""
    return float(F.pdist(vectors.double()).mean())


def rms_distance(images: Tensor) -> float:
    """Root mean square distance of two different ones of (N, ...), N > 1: the square root of twice the variance."""
    return float((2 * images.double().var(dim=0).sum()).sqrt())


def ratio(generated: float, real: float) -> float:
    """`generated` over `real`; 1 where there is nothing to be told apart on either side."""
    return generated / real if real else float(generated == real)
