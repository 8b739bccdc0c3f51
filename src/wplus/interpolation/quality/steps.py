"""Steps between neighbouring frames: how even they are, how long, and how much the way turns."""

from __future__ import annotations

import torch
from torch import Tensor

from wplus.interpolation.evenness import evenness
from wplus.interpolation.walk import Judges, Walk, repeated


def steps(walk: Walk, judges: Judges) -> dict[str, float]:
    """Evenness, length and tortuosity of the steps: see `wplus.interpolation.evenness.evenness`.

    `chord`, the distance of the ends, says how far apart the pictures are that this way joins.
    """
    distances = judges.distances(walk.rows(0, -1), walk.rows(1, None))
    chord = float(judges.distances(repeated(walk.features, 0), repeated(walk.features, len(walk.t) - 1)))
    walk.along["step"] = torch.cat([distances[:1], (distances[1:] + distances[:-1]) / 2, distances[-1:]])
    return {**evenness(distances, chord), "chord": chord}


def curvature(walk: Walk, judges: Judges) -> dict[str, float]:
    """How much the way through feature space turns, in degrees.

    The angle between successive displacements u = f2 - f1, v = f3 - f2 follows from the distances of frames one and
    two apart, because those of the LPIPS family are squared lengths: d13 = |u + v|^2 = d12 + d23 + 2 |u||v| cos(angle).
    0 is straight on, 180 is back. (Henaff et al. 2019, Nature Neuroscience 22, measure the straightness of videos by
    this angle.) Frames that do not move have no direction; angles there are left out.

    - `turning_deg`: sum of the angles, the total curvature of the polygon (Milnor 1950). On a smooth way it converges
      to the integral of the curvature as frames are added: 180 for half a circle, whatever T and whatever the speed.
    - `turning_mean_deg`: mean angle, as it is usually reported. It falls like 1 / T; compare it at equal T alone.
    """
    near = judges.distances(walk.rows(0, -1), walk.rows(1, None))
    far = judges.distances(walk.rows(0, -2), walk.rows(2, None))
    angles = turning_angles(near, far)
    if not len(angles):
        return {}
    degrees = torch.rad2deg(angles)
    return {"turning_deg": float(degrees.sum()), "turning_mean_deg": float(degrees.mean())}


def turning_angles(near: Tensor, far: Tensor) -> Tensor:
    """Angles in radians from squared lengths: near (T-1,) of displacements, far (T-2,) over two of them."""
    first, second = near[:-1], near[1:]
    moving = (first > 0) & (second > 0)
    first, second, both = first[moving], second[moving], far[moving]
    # tan^2(angle / 2) = (1 - cos) / (1 + cos): acos would lose half of the digits near 0.
    a, b = first.sqrt(), second.sqrt()
    minus, plus = ((a + b).square() - both).clamp_min(0), (both - (a - b).square()).clamp_min(0)
    return 2 * torch.atan2(minus.sqrt(), plus.sqrt())
