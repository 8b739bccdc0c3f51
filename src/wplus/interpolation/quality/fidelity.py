"""Do the ends of a walk show the real images? The gate of all other numbers: a bad inverter gives a smooth path."""

from __future__ import annotations

from wplus.images import to_float, to_uint8
from wplus.interpolation.walk import Judges, Walk
from wplus.losses.pixel import psnr


def fidelity(walk: Walk, judges: Judges) -> dict[str, float]:
    """Means over the two ends against the real images: the perceptual distance, under its name, and the PSNR.

    The ends are taken as they are stored, clipped and rounded to 8 bits, as in the table of a folder of inversions.

    - `end_<net>`: perceptual distance, 0 where the end is the image.
    - `end_psnr_db`: 10 log10(2^2 / mse), the range being 2, that of [-1, 1]; capped at 100 dB. (GAN inversion papers
      that compute 2 / mse are 3 dB lower.)

    Left out where a walk's ends stand for no real images.
    """
    if walk.targets is None:
        return {}
    targets = walk.targets.to(walk.images)
    ends = to_float(to_uint8(walk.images[[0, -1]])).to(walk.images)
    distances = judges.distances(judges.features(ends), judges.features(targets))
    decibels = psnr(ends, targets)
    return {f"end_{judges.perceptual.name}": float(distances.mean()), "end_psnr_db": float(decibels.double().mean())}
