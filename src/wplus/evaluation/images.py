"""What metrics need of a set of real images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from torch import Tensor


class Images(Protocol):
    """A set of real images (wplus.data.ImageSet)."""

    fingerprint: str
    resolution: int
    img_channels: int
    labels: Tensor | None
    digests: np.ndarray
    """(N, 32) uint8: the SHA-256 of the content of each image, wherever it stands in the set."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Image numbers (B,) -> uint8 images (B, C, H, W), labels (B, c_dim)."""


class Deferred:
    """Images that are read when a metric first asks for them: most path lengths need none."""

    def __init__(self, read: Callable[[], Images]) -> None:
        self._images = functools.cache(read)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images(), name)

    def __len__(self) -> int:
        return len(self._images())
