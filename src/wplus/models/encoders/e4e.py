"""e4e's encoder (Tov et al. 2021, "Designing an Encoder for StyleGAN Image Manipulation", section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from wplus.models.encoders.pyramid import PyramidEncoder


class Encoder4Editing(PyramidEncoder):
    """One w for all layers, and for every layer but the first a delta to it; arguments as in `PyramidEncoder`.

    With maps="last" it is ReStyle's ProgressiveBackboneEncoder. 152 M parameters for a 64 px generator, most of them
    in the heads: see `SmallEncoder` for small images.
    """

    def _offsets(self, x: Tensor, stage: int) -> Tensor:
        w, *deltas = self.head_outputs(x, stage + 1)
        rows = [w, *(w + delta for delta in deltas)]
        return torch.stack(rows + [w] * (self.num_ws - len(rows)), dim=1)
