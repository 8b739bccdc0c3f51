"""The encoder into W from the same backbone: one w for all layers."""

from __future__ import annotations

from torch import Tensor

from wplus.models.encoders import ir_se
from wplus.models.encoders.base import Encoder
from wplus.models.layers import EqualizedLinear


class WEncoder(Encoder):
    """Backbone, mean over positions, linear layer (pSp's BackboneEncoderUsingLastLayerIntoW).

    Arguments as in `Encoder`, and `depth` of the backbone. It has no deltas, so that every stage is the same. The
    start is PyTorch's, the linear layer is equalised.
    """

    def __init__(
        self,
        *,
        num_ws: int,
        w_dim: int = 512,
        img_channels: int = 3,
        input_size: int = 256,
        depth: int = 50,
        is_iterative: bool = False,
    ) -> None:
        super().__init__(
            num_ws=num_ws, w_dim=w_dim, img_channels=img_channels, input_size=input_size, is_iterative=is_iterative
        )
        self.input_layer = ir_se.stem(self.in_channels)
        self.body = ir_se.body(depth)
        self.linear = EqualizedLinear(ir_se.CHANNELS[-1], w_dim)

    def _offsets(self, x: Tensor, stage: int) -> Tensor:
        w = self.linear(self.body(self.input_layer(x)).mean(dim=(2, 3)))  # (N, w_dim)
        return w[:, None].repeat(1, self.num_ws, 1)
