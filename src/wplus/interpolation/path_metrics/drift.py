"""Who is in the picture on the way: similarity to both ends by a descriptor of identity."""

from __future__ import annotations

import torch
from torch import Tensor

from wplus.interpolation.walk import MetricTools, Trajectory, features_of, repeated


def drift(walk: Trajectory, judges: MetricTools) -> dict[str, float]:
    """Similarities s_a(t), s_b(t) of every frame to the first and to the last frame: cosine of descriptors, at most 1.

    The descriptor's name ends every name here: a stand-in is no face net. Ideally s_a falls all the way, s_b rises, and
    they cross half way. Papers on inversion and editing compare identities by this cosine (of ArcFace descriptors, Deng
    et al. 2019, arXiv:1801.07698, where there are faces); the numbers made of it along a path are our own.

    - `third_person_<net>`: min over t of max(s_a, s_b). Where it is low, there are pictures that are neither. What the
      end frames have in common bounds it from below: two similar ends cannot show a third person.
    - `backwards_<net>`: share of the 2 (T - 1) steps on which s_a rises or s_b falls: violations of monotonicity.
      Frames that differ by rounding alone count too, so it depends on T; the next does much less.
    - `backtrack_<net>`: how far they go the wrong way in all, over how far they must go the right way.
    - `crossover_<net>`: the first t at which s_b reaches s_a, straight between frames; 0.5 is half way.
    """
    if judges.identity is None:
        return {}
    descriptors = features_of(judges.identity, walk.images, judges.batch_size)
    to_a, to_b = (_similarities(judges, descriptors, row) for row in (0, len(walk.t) - 1))
    walk.along["similarity_a"], walk.along["similarity_b"] = to_a, to_b
    wrong = torch.cat([to_a.diff().clamp_min(0), (-to_b.diff()).clamp_min(0)])
    values = {
        "third_person": float(torch.maximum(to_a, to_b).min()),
        "backwards": float((wrong > 0).double().mean()),
        "crossover": crossover(walk.t, to_b - to_a),
    }
    needed = float(to_a[0] - to_a[-1] + to_b[-1] - to_b[0])
    values |= {"backtrack": float(wrong.sum()) / needed} if needed > 0 else {}
    return {f"{name}_{judges.identity.name}": value for name, value in values.items()}


@torch.no_grad()
def _similarities(judges: MetricTools, descriptors: list[Tensor], row: int) -> Tensor:
    assert judges.identity is not None
    return 1 - judges.identity.distance(descriptors, repeated(descriptors, row)).double().cpu()


def crossover(t: Tensor, lead: Tensor) -> float:
    """The first t (T,) at which lead (T,) is 0 or more, straight between frames; 1 where it never is."""
    reached = (lead >= 0).nonzero()[:, 0]
    if not len(reached):
        return 1.0
    index = int(reached[0])
    if index == 0:
        return float(t[0])
    before, after = float(lead[index - 1]), float(lead[index])
    return float(t[index - 1] + (t[index] - t[index - 1]) * -before / (after - before))
