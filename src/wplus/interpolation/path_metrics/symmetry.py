"""Does the way back show the same pictures?"""

from __future__ import annotations

import torch

from wplus.core.random import rng
from wplus.errors import UserError
from wplus.interpolation.walk import MetricTools, Trajectory, even_positions


def symmetry(walk: Trajectory, judges: MetricTools, *, num_frames: int = 9, share: float = 1.0) -> dict[str, float]:
    """`asymmetry`: largest perceptual distance between the path a to b at t and the path b to a at 1 - t.

    Over `num_frames` evenly spaced t, ends included. The way back is made anew, so a path that has to be searched for
    is searched for twice. 0 where it does not matter which point comes first; straight lines and great circles give 0
    up to rounding. `share` measures only this part of the walks, chosen by their names, so the same for every method.
    The number is our own.
    """
    if num_frames < 2 or not 0 <= share <= 1:
        raise UserError(
            f"num_frames={num_frames} with share={share} is not allowed: at least 2 frames, a share from 0 to 1."
        )
    if walk.back is None or not _chosen(walk.name, share):
        return {}
    t = even_positions(num_frames)
    there, back = judges.features(walk.at(t)), judges.features(walk.back(1 - t))
    return {"asymmetry": float(judges.distances(there, back).max())}


def _chosen(name: str, share: float) -> bool:
    return float(torch.rand((), generator=rng(0, name, "symmetry"))) < share
