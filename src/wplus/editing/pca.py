"""GANSpace: the principal components of w (Härkönen et al. 2020, https://arxiv.org/abs/2004.02546)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wplus.editing.directions import Direction, Directions
from wplus.editing.layers import chosen_layers
from wplus.editing.spread import deterministic_signs
from wplus.errors import UserError
from wplus.latents.w_stats import sample_w


def pca(
    models: Any,
    *,
    seed: int = 0,
    samples: Any = None,
    layers: str | Sequence[int] = "all",
    num_directions: int = 10,
    num_samples: int = 50_000,
) -> Directions:
    """The directions in which w varies most; a unit is one standard deviation, the origin the mean.

    seed, num_samples  of the random w
    samples            labelled codes, which this finder does not look at
    layers             which edits change; the components are the same for all
    """
    generator = models.generator
    most = min(generator.w_dim, num_samples - 1)
    if not 1 <= num_directions <= most:
        raise UserError(f"num_directions={num_directions} is not allowed: take 1 to {most} here.")
    w = sample_w(generator, num_samples, seed=seed)
    variances, vectors = components(w)
    origins, shares = vectors @ w.mean(dim=0), variances / variances.sum()
    items = [
        Direction(
            f"pca{k}", vectors[k].float(), chosen_layers(layers, generator.num_ws), generator.num_ws,
            unit=float(variances[k].sqrt()), origin=float(origins[k]), notes={"explained_variance": float(shares[k])},
        )
        for k in range(num_directions)
    ]  # fmt: skip
    settings = {"layers": layers, "num_samples": num_samples, "seed": seed}
    return Directions(tuple(items), models.fingerprint, {"finder": "pca", **settings})


def components(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Variances (D,), largest first, and principal components (D, D), a row each, of codes (N, D)."""
    values, vectors = torch.linalg.eigh(torch.cov(codes.T))
    return values.flip(0).clamp_min(0), deterministic_signs(vectors.T.flip(0))
