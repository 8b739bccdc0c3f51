"""Running means that stay on the device until somebody asks."""

from __future__ import annotations

import torch
from torch import Tensor


class RunningMeans:
    """Means of named scalars since the last `collect`; adding never waits for the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    @torch.no_grad()
    def add(self, name: str, value: Tensor) -> None:
        """Count one more value of `name`, a scalar tensor."""
        value = value.detach()
        self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._counts[name] = self._counts.get(name, 0) + 1

    def collect(self) -> dict[str, float]:
        """The means as floats (one transfer for all of them), and start over."""
        if not self._sums:
            return {}
        names = list(self._sums)
        values = torch.stack([self._sums[name].float() / self._counts[name] for name in names]).tolist()
        self._sums, self._counts = {}, {}
        return dict(zip(names, values, strict=True))
