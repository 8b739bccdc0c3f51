"""Is the middle of the way a picture, or a double exposure of the ends?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.interpolation.walk import MetricTools, Trajectory, repeated


@torch.no_grad()
def ghosting(walk: Trajectory, judges: MetricTools) -> dict[str, float]:
    """Two signs of a double exposure in the frame half way (the mean of two where T is even). Both are our own.

    - `distinctness`: perceptual distance of the frame from the nearest mixture (1 - m) a + m b of the end frames,
      over the distance of the ends. 0 is a cross-dissolve, the worst; a path that makes a picture of its own scores
      high. The nearest mixture is the one by squared pixel differences, m in [0, 1]. (A path that jumps shows an end
      half way, which is a mixture too, m = 0 or 1: the steps tell the two apart.) Left out where the ends are equal.
    - `detail_dip`: 1 - E(half way) / mean(E(ends)), E the energy of fine detail, see `detail_energy`. The mixture of
      two unrelated pictures has half the energy of its ends: 0.5. A shape that moves keeps it: 0. Below 0: more detail
      in the middle than at the ends.
    """
    middle, ends = walk.images[walk.middle], walk.images[[0, -1]]
    mixtures = nearest_mixtures(middle, *ends)
    found = judges.distances([maps[walk.middle] for maps in walk.features], judges.features(mixtures))
    chord = float(judges.distances(repeated(walk.features, 0), repeated(walk.features, len(walk.t) - 1)))
    energies = detail_energy(ends).mean()
    values = {} if chord == 0 else {"distinctness": float(found.mean()) / chord}
    return values if energies == 0 else {**values, "detail_dip": float(1 - detail_energy(middle).mean() / energies)}


def nearest_mixtures(images: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """For images (N, C, H, W) the mixtures (1 - m) a + m b, m in [0, 1], with the least squared difference."""
    way = b - a
    m = ((images - a) * way).sum(dim=(1, 2, 3)) / way.square().sum().clamp_min(1e-12)
    return a + m.clamp(0, 1).view(-1, 1, 1, 1) * way


def detail_energy(images: Tensor) -> Tensor:
    """Mean square of what a small blur takes away: images (N, C, H, W) -> (N,) float64.

    The blur is the binomial [1, 2, 1] / 4 along rows and columns, its border mirrored: at whatever resolution, this is
    the detail of single pixels.
    """
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64, device=images.device)
    x = images.double().flatten(0, 1)[:, None]  # (N * C, 1, H, W)
    x = x - F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), (kernel[:, None] * kernel)[None, None])
    return x.square().mean(dim=(1, 2, 3)).view(len(images), -1).mean(dim=1).cpu()
