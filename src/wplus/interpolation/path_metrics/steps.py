"""Steps between neighbouring frames: how even they are, how long, and how much the way turns."""

from __future__ import annotations

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.interpolation.evenness import evenness
from wplus.interpolation.walk import MetricTools, Trajectory, repeated


def steps(walk: Trajectory, judges: MetricTools) -> dict[str, float]:
    """Evenness, length and tortuosity of the steps: see `wplus.interpolation.evenness.evenness`.

    `chord`, the distance of the ends, says how far apart the pictures are that this way joins.
    """
    distances = judges.distances(walk.rows(0, -1), walk.rows(1, None))
    chord = float(judges.distances(repeated(walk.features, 0), repeated(walk.features, len(walk.t) - 1)))
    walk.along["step"] = torch.cat([distances[:1], (distances[1:] + distances[:-1]) / 2, distances[-1:]])
    return {**evenness(distances, chord), "chord": chord}


def curvature(walk: Trajectory, judges: MetricTools, *, num_pieces: int = 8) -> dict[str, float]:
    """How much the way through feature space turns, in degrees.

    The angle between successive displacements u = f2 - f1, v = f3 - f2 follows from the distances of frames one and
    two apart, because those of the LPIPS family are squared lengths: d13 = |u + v|^2 = d12 + d23 + 2 |u||v| cos(angle).
    0 is straight on, 180 is back. (Henaff et al. 2019, Nature Neuroscience 22, measure the straightness of videos by
    this angle.) Frames that do not move have no direction; angles there are left out.

    - `turning_mean_deg`: mean angle from frame to frame, as it is usually reported. It depends on the number of frames.
    - `turning_deg`: the way is cut into `num_pieces` pieces of equal length at its frames; the sum of the angles
      between their chords. 157.5 for half a circle in 8 pieces, whatever T and whatever the speed.

    The sum over all frames would be the total curvature (Milnor 1950), which converges on a smooth way as frames are
    added. Features of networks are not smooth: on straight lines in w of the cats' generator (EfficientNet-Lite0) it is
    884, 1393, 2107, 3078 and 4401 degrees with 17, 33, 65, 129 and 257 frames, so like the root of T. Hence pieces of a
    fixed size.
    """
    if num_pieces < 2:
        raise UserError(f"num_pieces={num_pieces} is not allowed: a way that turns has 2 pieces at least.")
    near = judges.distances(walk.rows(0, -1), walk.rows(1, None))
    angles = _angles(walk, judges, torch.arange(len(walk.t)))
    if not len(angles):
        return {}
    pieces = _angles(walk, judges, equal_pieces(near, num_pieces))
    return {"turning_deg": float(torch.rad2deg(pieces.sum())), "turning_mean_deg": float(torch.rad2deg(angles.mean()))}


def equal_pieces(steps: Tensor, num_pieces: int) -> Tensor:
    """The frames that cut a way with these steps (T-1,), squared lengths, most nearly into pieces of equal length."""
    way = torch.nn.functional.pad(steps.clamp_min(0).sqrt().cumsum(dim=0), (1, 0))
    wanted = torch.linspace(0, 1, num_pieces + 1, dtype=way.dtype) * way[-1]
    return (way - wanted[:, None]).abs().argmin(dim=1).unique()


def _angles(walk: Trajectory, judges: MetricTools, frames: Tensor) -> Tensor:
    """Angles in radians between the chords through these frames (F,): at most F - 2."""
    rows = [maps[frames.to(maps.device)] for maps in walk.features]
    near = judges.distances([maps[:-1] for maps in rows], [maps[1:] for maps in rows])
    far = judges.distances([maps[:-2] for maps in rows], [maps[2:] for maps in rows])
    return turning_angles(near, far)


def turning_angles(near: Tensor, far: Tensor) -> Tensor:
    """Angles in radians from squared lengths: near (T-1,) of displacements, far (T-2,) over two of them."""
    first, second = near[:-1], near[1:]
    moving = (first > 0) & (second > 0)
    first, second, both = first[moving], second[moving], far[moving]
    # tan^2(angle / 2) = (1 - cos) / (1 + cos): acos would lose half of the digits near 0.
    a, b = first.sqrt(), second.sqrt()
    minus, plus = ((a + b).square() - both).clamp_min(0), (both - (a - b).square()).clamp_min(0)
    return 2 * torch.atan2(minus.sqrt(), plus.sqrt())
