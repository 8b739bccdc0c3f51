"""Finders that need no labels: SeFa, which only uses the weights, and GANSpace, which uses the distribution of w.

A finder is a function (models, *, seed, labelled, and its own options) -> `Directions`, with a file in configs/finder/.
`labelled` returns latents with attributes for finders that need them (`wplus.editing.svm`).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.editing.directions import Direction, Directions, select_layers
from wplus.errors import check_choice, check_number
from wplus.latents.w_stats import sample_w


def sefa(
    models: Models, *, seed: int = 0, labelled: object = None, layers: str | Sequence[int] = "all",
    num_directions: int = 10, to_rgb: Literal["last", "all"] = "last", num_samples: int = 10_000,
) -> Directions:  # fmt: skip
    """The unit vectors of w that change the styles of the chosen layers most (Shen & Zhou 2021, arXiv:2007.06600).

    With A the stacked modulation weights of these layers, each channel's row normalised to unit length, they are the
    eigenvectors of A^T A with the largest eigenvalues (equation 6): sefa0 maximises |A n|.

    Args:
        seed: of the samples that determine units and origins; the vectors do not depend on it.
        layers: whose styles are analysed and which edits change, see `select_layers`.
        to_rgb: "last": one affine map per layer of ws, RGB's only for the last layer, as published; "all": every map.
        num_samples: number of samples of w.
    """
    generator = models.generator
    check_number("num_directions", num_directions, lowest=1, highest=generator.w_dim, whole=True)
    selected = select_layers(layers, generator.num_ws)
    maps = modulation_weights(generator.synthesis, to_rgb=to_rgb)
    values, vectors = factorise(torch.cat([weight for layer in selected for weight in maps[layer]]))
    projections = sample_w(generator, num_samples, seed=seed) @ vectors[:num_directions].T
    units, origins, shares = projections.std(dim=0), projections.mean(dim=0), values / values.sum()
    items = [
        Direction(
            f"sefa{k}", vectors[k].float(), selected, generator.num_ws, unit=float(units[k]), origin=float(origins[k]),
            notes={"eigenvalue_share": float(shares[k])},
        )
        for k in range(num_directions)
    ]  # fmt: skip
    settings = {"layers": layers, "to_rgb": to_rgb, "num_samples": num_samples, "seed": seed}
    return Directions(tuple(items), models.fingerprint, {"finder": "sefa", **settings})


def factorise(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D,), largest first, and eigenvectors (D, D), as rows, of A^T A for A (C, D) with normalised rows."""
    rows = weights.detach().double().cpu()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return _eigen(rows.T @ rows)


def modulation_weights(synthesis: Any, *, to_rgb: str) -> list[list[Tensor]]:
    """For each layer of ws, the weights (channels, w_dim) of the affine maps that read it, coarse to fine."""
    check_choice("to_rgb", to_rgb, ("last", "all"))
    maps: list[list[Tensor]] = [[] for _ in range(synthesis.num_ws)]
    first = 0
    for block in synthesis.blocks:
        for offset, layer in enumerate(block.layers):
            maps[first + offset].append(layer.affine.weight)
        first += len(block.layers)  # of the next block; RGB takes the style of its first layer
        if to_rgb == "all" or first == synthesis.num_ws - 1:
            maps[first].append(block.torgb.affine.weight)
    return maps


def pca(
    models: Models, *, seed: int = 0, labelled: object = None, layers: str | Sequence[int] = "all",
    num_directions: int = 10, num_samples: int = 50_000,
) -> Directions:  # fmt: skip
    """GANSpace: the principal components of w (Härkönen et al. 2020, arXiv:2004.02546).

    The unit is one standard deviation, the origin the mean of w. `seed` and `num_samples` apply to the random w;
    `layers` are those that edits change and do not affect the components.
    """
    generator = models.generator
    most = min(generator.w_dim, num_samples - 1)
    check_number("num_directions", num_directions, lowest=1, highest=most, whole=True)
    w = sample_w(generator, num_samples, seed=seed)
    variances, vectors = _eigen(torch.cov(w.T))
    origins, shares = vectors @ w.mean(dim=0), variances / variances.sum()
    items = [
        Direction(
            f"pca{k}", vectors[k].float(), select_layers(layers, generator.num_ws), generator.num_ws,
            unit=float(variances[k].sqrt()), origin=float(origins[k]), notes={"explained_variance": float(shares[k])},
        )
        for k in range(num_directions)
    ]  # fmt: skip
    settings = {"layers": layers, "num_samples": num_samples, "seed": seed}
    return Directions(tuple(items), models.fingerprint, {"finder": "pca", **settings})


def _eigen(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D,), largest first, none below 0, and eigenvectors (D, D), as rows.

    The arbitrary sign of an eigenvector is chosen so that its largest component is positive.
    """
    values, columns = torch.linalg.eigh(symmetric)
    vectors = columns.T.flip(0)
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return values.flip(0).clamp_min(0), vectors * largest.sign()
