"""Published encoders on the IR-SE backbone: e4e, pSp, ReStyle and the one into W, and e4e's latent discriminator.

Parameter names follow the published checkpoints.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.errors import check_choice
from wplus.models.encoders import ir_se
from wplus.models.encoders.base import Encoder, with_deltas
from wplus.models.layers import SLOPE, EqualizedLinear, outputs_at
from wplus.models.network import Network

# Styles before the first of these read the coarse map, those before the second the middle one, for every num_ws.
COARSE_END, MIDDLE_END = 3, 7
STRIDES = (16, 8, 4)  # of the coarse, middle and fine map


class StyleHead(nn.Module):
    """Turn a map into one style ("map2style" of pSp): strided convolutions to one position, then a linear layer."""

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
    """Backbone, feature pyramid and a style head per layer. Subclasses define how the heads' outputs become ws.

    Arguments in addition to those of `Encoder`
        depth  of the backbone: 50 as published, 100 or 152
        maps   "pyramid", or "last": every head reads the backbone's last map (the simplified encoders of ReStyle)

    The heads' linear layers are equalised; published encoders initialise the backbone from ArcFace.
    """

    def __init__(
        self, *, num_ws: int, w_dim: int = 512, img_channels: int = 3, input_size: int = 256, depth: int = 50,
        maps: Literal["pyramid", "last"] = "pyramid", is_iterative: bool = False,
    ) -> None:  # fmt: skip
        check_choice("maps", maps, ("pyramid", "last"))
        size = {"num_ws": num_ws, "w_dim": w_dim, "img_channels": img_channels, "input_size": input_size}
        super().__init__(**size, is_iterative=is_iterative)
        self.maps = maps
        self.input_layer, self.body = ir_se.stem(self.in_channels), ir_se.body(depth)
        self.taps = ir_se.taps(depth)
        fine, middle, coarse = ir_se.CHANNELS[1:]
        self.styles = nn.ModuleList(StyleHead(coarse, w_dim, side=self._side(i)) for i in range(num_ws))
        if maps == "pyramid":  # both, as published, even if a small generator has no style that reads the fine map
            self.latlayer1 = nn.Conv2d(middle, coarse, 1)
            self.latlayer2 = nn.Conv2d(fine, coarse, 1)

    def _side(self, style: int) -> int:
        """Side of the map that a style reads."""
        level = 0 if self.maps == "last" else (style >= COARSE_END) + (style >= MIDDLE_END)
        return self.input_size // STRIDES[level]

    def head_outputs(self, x: Tensor, num: int) -> list[Tensor]:
        """Outputs (N, w_dim) of the first `num` heads; other heads, and maps only they need, are not computed."""
        fine, middle, coarse = outputs_at(self.body, self.input_layer(x), self.taps)
        levels = [coarse]
        if self.maps == "pyramid" and num > COARSE_END:
            levels.append(upsampled(levels[-1], like=middle) + self.latlayer1(middle))
        if self.maps == "pyramid" and num > MIDDLE_END:
            levels.append(upsampled(levels[-1], like=fine) + self.latlayer2(fine))
        by_side = {level.shape[-1]: level for level in levels}
        return [head(by_side[self._side(i)]) for i, head in enumerate(self.styles[:num])]


def upsampled(x: Tensor, *, like: Tensor) -> Tensor:
    """Upsample a map to the size of `like`: bilinear with aligned corners, as published."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


class Encoder4Editing(PyramidEncoder):
    """e4e (Tov et al. 2021, "Designing an Encoder for StyleGAN Image Manipulation", section 3): one w for all layers,
    and for every layer but the first a delta to it; arguments as in `PyramidEncoder`.

    With maps="last" it is ReStyle's ProgressiveBackboneEncoder. For a 64 px generator it has 152 M parameters, most of
    them in the heads: see `SmallEncoder`.
    """

    def _offsets(self, x: Tensor, stage: int) -> Tensor:
        return with_deltas(self.head_outputs(x, stage + 1), self.num_ws)


class GradualStyleEncoder(PyramidEncoder):
    """pSp (Richardson et al. 2021, "Encoding in Style", section 3): a separate style for every layer; arguments as in
    `PyramidEncoder`. With maps="last" it is ReStyle's BackboneEncoder."""

    spaces = ("w+",)
    has_stages = False

    def _offsets(self, x: Tensor, stage: int) -> Tensor:
        return torch.stack(self.head_outputs(x, self.num_ws), dim=1)


class WEncoder(Encoder):
    """One w for all layers: backbone, mean over positions, linear layer (pSp's BackboneEncoderUsingLastLayerIntoW).

    Arguments as in `Encoder`, and `depth` of the backbone. It has no deltas, so all stages are equal.
    """

    def __init__(
        self, *, num_ws: int, w_dim: int = 512, img_channels: int = 3, input_size: int = 256, depth: int = 50,
        is_iterative: bool = False,
    ) -> None:  # fmt: skip
        size = {"num_ws": num_ws, "w_dim": w_dim, "img_channels": img_channels, "input_size": input_size}
        super().__init__(**size, is_iterative=is_iterative)
        self.input_layer, self.body = ir_se.stem(self.in_channels), ir_se.body(depth)
        self.linear = EqualizedLinear(ir_se.CHANNELS[-1], w_dim)

    def _offsets(self, x: Tensor, stage: int) -> Tensor:
        return with_deltas([self.linear(self.body(self.input_layer(x)).mean(dim=(2, 3)))], self.num_ws)


class LatentDiscriminator(Network):
    """Tells w of the mapping network from w of an encoder (Tov et al. 2021, section 3.3.2; Nitzan et al. 2020).

    An MLP of `num_layers` linear layers, leaky ReLU with slope 0.2 between them; 788,481 parameters for w_dim 512.
    """

    def __init__(self, *, w_dim: int = 512, width: int = 512, num_layers: int = 4) -> None:
        super().__init__()
        widths = [w_dim] + [width] * (num_layers - 1)
        hidden = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.LeakyReLU(SLOPE))]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], 1))

    def forward(self, w: Tensor) -> Tensor:
        """w (N, w_dim) -> logits (N, 1)."""
        return self.layers(w)
