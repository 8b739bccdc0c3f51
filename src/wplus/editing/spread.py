"""How far codes spread along directions, and which sign a direction gets."""

from __future__ import annotations

from torch import Tensor


def spread(codes: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean of codes (N, D) along unit vectors (K, D): each (K,)."""
    projections = codes @ vectors.to(codes).T
    return projections.std(dim=0), projections.mean(dim=0)


def deterministic_signs(vectors: Tensor) -> Tensor:
    """Vectors (K, D), each with the sign that makes its largest number positive: eigenvectors come with either."""
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return vectors * largest.sign()
