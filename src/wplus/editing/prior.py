"""The prior of w as directions need it: samples, how far they spread along a vector, and where their middle lies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wplus.errors import UserError

_CHUNK = 1000  # samples mapped at once: mapping is cheap, but returns num_ws copies of w


@torch.no_grad()
def sample_w(generator: Any, num: int, *, seed: int) -> Tensor:
    """Samples of w (num, w_dim), float64 on the CPU; those of a conditional generator are of all classes in turn."""
    if num < 2:
        raise UserError(f"num_samples={num} is not allowed: a spread needs at least 2.")
    device = generator.mapping.w_avg.device
    z = torch.randn(num, generator.z_dim, generator=torch.Generator().manual_seed(seed)).to(device)
    labels = None
    if generator.c_dim:
        labels = torch.eye(generator.c_dim, device=device)[torch.arange(num, device=device) % generator.c_dim]
    chunks = [slice(first, first + _CHUNK) for first in range(0, num, _CHUNK)]
    mapped = [generator.mapping(z[chunk], None if labels is None else labels[chunk])[:, 0] for chunk in chunks]
    return torch.cat(mapped).double().cpu()


def spread(codes: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean of codes (N, D) along unit vectors (K, D): each (K,)."""
    projections = codes @ vectors.to(codes).T
    return projections.std(dim=0), projections.mean(dim=0)


def deterministic_signs(vectors: Tensor) -> Tensor:
    """Vectors (K, D), each with the sign that makes its largest number positive: eigenvectors come with either."""
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return vectors * largest.sign()
