"""What e4e's and pSp's encoders share: the IR-SE backbone, a feature pyramid on it, and one style head per layer.

Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from wplus.errors import UserError
from wplus.models.encoders import ir_se
from wplus.models.encoders.base import Encoder
from wplus.models.layers import EqualizedLinear

# Styles before the first of these read the coarse map, those before the second the middle one, for every num_ws.
COARSE_END, MIDDLE_END = 3, 7
STRIDES = (16, 8, 4)  # of the coarse, middle and fine map
Maps = Literal["pyramid", "last"]


class StyleHead(nn.Module):
    """A map to one style ("map2style" of pSp): strided convolutions down to one position, then a linear layer."""

    def __init__(self, in_channels: int, w_dim: int, *, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(int(math.log2(side))):
            layers += [nn.Conv2d(w_dim if i else in_channels, w_dim, 3, stride=2, padding=1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualizedLinear(w_dim, w_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, side, side) -> (N, w_dim)."""
        return self.linear(self.convs(x).flatten(1))


class PyramidEncoder(Encoder):
    """Backbone, pyramid and heads; a subclass says how the heads' outputs become ws.

    Arguments beside those of `Encoder`
        depth  of the backbone: 50 as published, 100 or 152
        maps   "pyramid", or "last": every head reads the backbone's last map (the simplified encoders of ReStyle)

    Everything starts as PyTorch's layers do but the heads' linear layers, which are equalised; published encoders take
    the backbone from ArcFace instead.
    """

    def __init__(
        self,
        *,
        num_ws: int,
        w_dim: int = 512,
        img_channels: int = 3,
        input_size: int = 256,
        depth: int = 50,
        maps: Maps = "pyramid",
        is_iterative: bool = False,
    ) -> None:
        super().__init__(
            num_ws=num_ws, w_dim=w_dim, img_channels=img_channels, input_size=input_size, is_iterative=is_iterative
        )
        if maps not in ("pyramid", "last"):
            raise UserError(f"maps='{maps}' is not known; it must be pyramid or last.")
        self.maps = maps
        self.input_layer, self.body = ir_se.stem(self.in_channels), ir_se.body(depth)
        self.taps = ir_se.taps(depth)
        fine, middle, coarse = ir_se.CHANNELS[1:]
        self.styles = nn.ModuleList(StyleHead(coarse, w_dim, side=self._side(i)) for i in range(num_ws))
        if maps == "pyramid":  # both also where a small generator has no style that reads the fine map, as published
            self.latlayer1 = nn.Conv2d(middle, coarse, 1)
            self.latlayer2 = nn.Conv2d(fine, coarse, 1)

    def _side(self, style: int) -> int:
        """Side of the map that a style reads."""
        level = 0 if self.maps == "last" else (style >= COARSE_END) + (style >= MIDDLE_END)
        return self.input_size // STRIDES[level]

    def head_outputs(self, x: Tensor, num: int) -> list[Tensor]:
        """Outputs (N, w_dim) of the first `num` heads; the others, and what only they would read, stay untouched."""
        fine, middle, coarse = ir_se.tapped(self.body, self.input_layer(x), self.taps)
        levels = [coarse]
        if self.maps == "pyramid" and num > COARSE_END:
            levels.append(enlarged(levels[-1], middle) + self.latlayer1(middle))
        if self.maps == "pyramid" and num > MIDDLE_END:
            levels.append(enlarged(levels[-1], fine) + self.latlayer2(fine))
        by_side = {level.shape[-1]: level for level in levels}
        return [head(by_side[self._side(i)]) for i, head in enumerate(self.styles[:num])]


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """A map at the size of `like`: bilinear, corners on corners, as published."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)
