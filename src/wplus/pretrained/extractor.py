"""What every extractor says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


class Extractor(nn.Module):
    """A net whose features are measured; a subclass sets `name`, `dim` and `layer`, and implements `forward`.

    Args:
        weights: name of the weights file.
        sha256: of that file.
        preparation: what happens to images before the net sees them, see `wplus.pretrained.preprocessing`.
    """

    name: str
    dim: int
    layer: str

    def __init__(self, *, weights: str, sha256: str, preparation: Mapping[str, str]) -> None:
        super().__init__()
        self._weights, self._sha256, self._preparation = weights, sha256, dict(preparation)

    @property
    def protocol(self) -> dict[str, Any]:
        """Name, layer, weights file and its SHA-256, input size and resize."""
        return {
            "extractor": self.name,
            "extractor_layer": self.layer,
            "extractor_weights": self._weights,
            "extractor_sha256": self._sha256,
            **self._preparation,
        }
