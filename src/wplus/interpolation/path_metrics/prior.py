"""How far the latents of a walk are from what the mapping network makes."""

from __future__ import annotations

import torch

from wplus.interpolation.walk import MetricTools, Trajectory


@torch.no_grad()
def prior(walk: Trajectory, judges: MetricTools) -> dict[str, float]:
    """Distance from the prior along the way: `wplus.latents.w_stats.Whitened.distance`, about 1 for samples of the prior.

    The squared Mahalanobis distance in whitened W (Zhu et al. 2020, arXiv:2012.09036), over w_dim. Below 1 is nearer
    to the mean picture than samples are, as the middle of a straight line is.

    - `prior_mean`, `prior_max`: over the way.
    - `prior_layer_<i>`: mean over the way of layer i alone, where the layers differ (w+, z+).
    """
    if walk.ws is None or judges.whitened is None:
        return {}
    layers = judges.whitened.coordinates(walk.ws).double().square().mean(dim=2).cpu()  # (T, num_ws)
    whole = layers.mean(dim=1)
    walk.along["prior"] = whole
    values = {"prior_mean": float(whole.mean()), "prior_max": float(whole.max())}
    if bool((walk.ws == walk.ws[:, :1]).all()):
        return values
    return values | {f"prior_layer_{index}": float(value) for index, value in enumerate(layers.mean(dim=0))}
