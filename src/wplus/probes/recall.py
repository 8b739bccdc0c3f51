"""Precision and recall while the training goes on: of few images, so that they can be followed, not published."""

from __future__ import annotations

from wplus.errors import check_number
from wplus.evaluation.manifold import precision_recall
from wplus.probes.scene import ProbeContext
from wplus.training.snapshot import ProbeResult


def recall(scene: ProbeContext, *, num_images: int = 1000, k: int = 3) -> ProbeResult:
    """Improved precision and recall (Kynkäänniemi et al. 2019) of as many generated as training images.

    Values: watch/precision_<extractor>_<number> and watch/recall_<extractor>_<number>, the number that of the images on
    either side: what they are depends on it. Data sets with no more than k images are left out.
    """
    check_number("num_images", num_images, lowest=2, whole=True)
    check_number("k", k, lowest=1, highest=num_images - 1, whole=True)
    num = min(num_images, len(scene.data))
    if num <= k:
        return ProbeResult()
    found = precision_recall(*(scene.features(which, num) for which in ("train", "generated")), k=k)
    suffix = f"{scene.extractor.name}_{num}" + (f"_k{k}" if k != 3 else "")
    return ProbeResult(
        values={f"watch/{name}_{suffix}": part for name, part in zip(("precision", "recall"), found, strict=True)}
    )
