"""Distance of the latents along a path from the mapping network's distribution."""

from dataclasses import replace

import torch

from wplus.interpolation.trajectory import MetricTools, PathNumber, Scores, Trajectory

PRIOR_MEAN = PathNumber(name="prior_mean", by_net=False, format=".2f", meaning=(
    "Distance of the latents from the mapping network's distribution, mean over the path: about 1 for its own samples, "
    "much more in regions unseen in training."))  # fmt: skip
PRIOR_MAX = PathNumber(name="prior_max", by_net=False, format=".2f", shown="short", meaning=(
    "Distance of the latents from the mapping network's distribution, maximum over the path: about 1 for its own "
    "samples, much more in regions unseen in training."))  # fmt: skip
PRIOR_LAYER = PathNumber(name="prior_layer", by_net=False, format=".2f", shown="file", meaning=(
    "Distance of one layer's latents from the mapping network's distribution, mean over the path: about 1 for its own "
    "samples."))  # fmt: skip


def prior(trajectory: Trajectory, tools: MetricTools) -> Scores:
    """Distance from the prior along the path: the squared Mahalanobis distance in whitened W, divided by w_dim.

    Zhu et al. 2020, arXiv:2012.09036; see `wplus.latents.w_stats.Whitened.distance`. Values below 1 are closer to the
    mean image than samples are, like the middle of a straight line. `prior_layer_<i>` are reported if layers differ.
    Spaces without ws have their own distance, see `LatentSpace.prior_distance`.
    """
    if trajectory.prior is not None:
        trajectory.along["prior"] = own = trajectory.prior.double().cpu()
        yield PRIOR_MEAN, float(own.mean())
        yield PRIOR_MAX, float(own.max())
    if trajectory.ws is None or tools.whitened is None:
        return
    with torch.no_grad():
        layers = tools.whitened.coordinates(trajectory.ws).double().square().mean(dim=2).cpu()  # (T, num_ws)
    trajectory.along["prior"] = whole = layers.mean(dim=1)
    yield PRIOR_MEAN, float(whole.mean())
    yield PRIOR_MAX, float(whole.max())
    differ = bool((trajectory.ws != trajectory.ws[:, :1]).any())
    for index, value in enumerate(layers.mean(dim=0) if differ else ()):
        yield replace(PRIOR_LAYER, name=f"{PRIOR_LAYER.name}_{index}"), float(value)
