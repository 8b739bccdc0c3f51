"""SeFa: directions from the weights alone (Shen & Zhou 2021, https://arxiv.org/abs/2007.06600)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from wplus.editing.directions import Direction, Directions
from wplus.editing.layers import chosen_layers
from wplus.editing.spread import deterministic_signs, spread
from wplus.errors import UserError
from wplus.latents.w_stats import sample_w


def sefa(
    models: Any,
    *,
    seed: int = 0,
    samples: Any = None,
    layers: str | Sequence[int] = "all",
    num_directions: int = 10,
    to_rgb: Literal["last", "all"] = "last",
    num_samples: int = 10_000,
) -> Directions:
    """The unit vectors of w that change the styles of the chosen layers most.

    With A the modulation weights of these layers, stacked and every channel's row of unit length, they are the
    eigenvectors of A^T A with the largest eigenvalues (equation 6): sefa0 maximises |A n|.

    seed, num_samples  of the samples that give each direction its unit and origin; the vectors need none
    samples            labelled codes, which this finder does not look at
    layers             whose styles count, and which edits change: see `layers.chosen_layers`
    to_rgb             last: one affine map per layer of ws, the colours' only for the last layer, as published;
                       all: every map that reads a layer
    """
    generator = models.generator
    if not 1 <= num_directions <= generator.w_dim:
        raise UserError(f"num_directions={num_directions} is not allowed: w has {generator.w_dim}, take 1 or more.")
    chosen = chosen_layers(layers, generator.num_ws)
    maps = modulation_weights(generator.synthesis, to_rgb=to_rgb)
    values, vectors = factorise(torch.cat([weight for layer in chosen for weight in maps[layer]]))
    units, origins = spread(sample_w(generator, num_samples, seed=seed), vectors[:num_directions])
    items = [
        Direction(
            f"sefa{k}", vectors[k].float(), chosen, generator.num_ws, unit=float(units[k]), origin=float(origins[k]),
            notes={"eigenvalue_share": float(values[k] / values.sum())},
        )
        for k in range(num_directions)
    ]  # fmt: skip
    settings = {"layers": layers, "to_rgb": to_rgb, "num_samples": num_samples, "seed": seed}
    return Directions(tuple(items), models.fingerprint, {"finder": "sefa", **settings})


def factorise(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D,), largest first, and eigenvectors (D, D), a row each, of A^T A for rows (C, D) made unit."""
    rows = weights.detach().double().cpu()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    values, vectors = torch.linalg.eigh(rows.T @ rows)
    return values.flip(0).clamp_min(0), deterministic_signs(vectors.T.flip(0))


def modulation_weights(synthesis: Any, *, to_rgb: str) -> list[list[Tensor]]:
    """For each layer of ws the weights (channels, w_dim) of the affine maps that read it, coarse to fine."""
    if to_rgb not in ("last", "all"):
        raise UserError(f"to_rgb={to_rgb} is not known; allowed are last, all.")
    maps: list[list[Tensor]] = [[] for _ in range(synthesis.num_ws)]
    first = 0
    for block in synthesis.blocks:
        for offset, layer in enumerate(block.layers):
            maps[first + offset].append(layer.affine.weight)
        first += len(block.layers)  # of the next block; the colours take the style of its first layer
        if to_rgb == "all" or first == synthesis.num_ws - 1:
            maps[first].append(block.torgb.affine.weight)
    return maps
