"""Do the ends of a walk show the real images? Ask this before all other numbers: a bad inverter gives a smooth path."""

from __future__ import annotations

import math

from wplus.core.images import to_float, to_uint8
from wplus.interpolation.walk import MetricTools, Trajectory, repeated
from wplus.losses.pixel import psnr


def fidelity(walk: Trajectory, judges: MetricTools) -> dict[str, float]:
    """Means over the two ends against the real images: the perceptual distance, under its name, and the PSNR.

    The ends are taken as they are stored, clipped and rounded to 8 bits, as in the table of a folder of inversions.

    - `end_<net>`: perceptual distance, 0 where the end is the image. (LPIPS: Zhang et al. 2018, arXiv:1801.03924.)
    - `end_psnr_db`: 10 log10(2^2 / mse), the range being 2, that of [-1, 1]; capped at 100 dB. (GAN inversion papers
      that compute 2 / mse are 3 dB lower.)
    - `end_miss`: not a mean, but the larger error of the two, over the distance of the two real images, both as
      lengths: sqrt(max d(end, its image) / d(a, b)), the distances of the LPIPS family being squares. 1 is as far from
      the image as the other image is. Our own; the gate of a comparison. Left out where the images are equal.

    Left out where a walk's ends stand for no real images.
    """
    if walk.targets is None:
        return {}
    targets = walk.targets.to(walk.images)
    ends = to_float(to_uint8(walk.images[[0, -1]])).to(walk.images)
    features = judges.features(targets)
    distances = judges.distances(judges.features(ends), features).clamp_min(0)
    apart = float(judges.distances(repeated(features, 0), repeated(features, 1)))
    decibels = float(psnr(ends, targets).double().mean())
    values = {f"end_{judges.perceptual.name}": float(distances.mean()), "end_psnr_db": decibels}
    return values if apart == 0 else {**values, "end_miss": math.sqrt(float(distances.max()) / apart)}
