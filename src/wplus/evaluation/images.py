"""What metrics need of a set of real images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
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
    policies: Mapping[str, Any]
    """How the images came to be: `split`, `held_out_fraction`, `num_skipped`, `subset_of`, ... where they are known."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Image numbers (B,) -> uint8 images (B, C, H, W), labels (B, c_dim)."""


def split_of(images: Images) -> str:
    """train, held_out or all; a training set that leaves nothing out is all, as are images that say nothing of it."""
    policies = getattr(images, "policies", {})
    split = policies.get("split", "all")
    return "all" if split == "train" and policies.get("held_out_fraction") == 0 else split


def is_part(images: Images) -> bool:
    """Whether images of the split are missing: chosen out, or skipped because they could not be read."""
    policies = getattr(images, "policies", {})
    return "subset_of" in policies or policies.get("num_skipped", 0) > 0


class Deferred:
    """Images that are read when a metric first asks for them: most path lengths need none."""

    def __init__(self, read: Callable[[], Images]) -> None:
        self._images = functools.cache(read)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images(), name)

    def __len__(self) -> int:
        return len(self._images())
