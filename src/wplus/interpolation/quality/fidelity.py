"""Do the ends of a walk show the real images? The gate of all other numbers: a bad inverter gives a smooth path."""

from __future__ import annotations

import torch

from wplus.interpolation.walk import Judges, Walk
from wplus.losses.pixel import psnr


def fidelity(walk: Walk, judges: Judges) -> dict[str, float]:
    """Means over the two ends against the real images: the perceptual distance, under its name, and the PSNR.

    - `end_<net>`: perceptual distance, 0 where the end is the image.
    - `end_psnr_db`: 10 log10(2^2 / mse), the range being 2, that of [-1, 1]; capped at 100 dB. (GAN inversion papers
      that compute 2 / mse are 3 dB lower.)

    Left out where a walk's ends stand for no real images.
    """
    if walk.targets is None:
        return {}
    targets = walk.targets.to(walk.images)
    ends = [torch.stack([maps[0], maps[-1]]) for maps in walk.features]
    distances = judges.distances(ends, judges.features(targets))
    decibels = psnr(walk.images[[0, -1]], targets)
    return {f"end_{judges.perceptual.name}": float(distances.mean()), "end_psnr_db": float(decibels.double().mean())}
