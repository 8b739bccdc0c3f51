"""pSp's encoder (Richardson et al. 2021, "Encoding in Style", section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from wplus.models.encoders.pyramid import PyramidEncoder


class GradualStyleEncoder(PyramidEncoder):
    """A style of its own for every layer; arguments as in `PyramidEncoder`.

    With maps="last" it is ReStyle's BackboneEncoder.
    """

    spaces = ("w+",)
    has_stages = False

    def _offsets(self, x: Tensor, stage: int) -> Tensor:
        return torch.stack(self.head_outputs(x, self.num_ws), dim=1)
