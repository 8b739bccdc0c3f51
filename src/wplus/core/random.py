"""Randomness that belongs to an image, not to the batch it travels in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

_BLOCK_STEPS = 32  # steps drawn at once: one call per image and block instead of one per image and step


def rng(seed: int, *words: str) -> torch.Generator:
    """A generator on the CPU whose numbers depend on the seed and the words alone."""
    digest = hashlib.sha256("\0".join([str(seed), *words]).encode("utf-8", "surrogateescape")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") % 2**63)


def normal(seed: int, names: Sequence[str], purpose: str, shape: Sequence[int], device: torch.device) -> Tensor:
    """Standard normal numbers (len(names), *shape), each row from its own generator."""
    return torch.stack([torch.randn(*shape, generator=rng(seed, name, purpose)) for name in names]).to(device)


class NormalStream:
    """Fresh standard normal numbers (N, *shape) at every call of `next`, each image from its own generator."""

    def __init__(
        self, seed: int, names: Sequence[str], purpose: str, shape: Sequence[int], device: torch.device
    ) -> None:
        self._rngs = [rng(seed, name, purpose) for name in names]
        self._shape, self._device = tuple(shape), device
        self._block: list[Tensor] = []

    def next(self) -> Tensor:
        """The next draw, (N, *shape)."""
        if not self._block:
            draws = [torch.randn(_BLOCK_STEPS, *self._shape, generator=generator) for generator in self._rngs]
            self._block = list(torch.stack(draws, dim=1).to(self._device).unbind())[::-1]
        return self._block.pop()
