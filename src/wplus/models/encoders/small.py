"""An encoder sized for small images: e4e's w plus deltas, on a residual network with a few million weights.

It uses group normalisation, so that images of a batch never mix and there are no running statistics to go wrong at
inference. Heads read vectors instead of maps, so that all of them together are one matrix product.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.errors import UserError
from wplus.models.encoders.base import Encoder, with_deltas
from wplus.models.encoders.e4e import COARSE_END, MIDDLE_END
from wplus.models.layers import SLOPE

TOP_SIDE = 16  # side of the fine map; larger images are reduced to it by strided convolutions only
WIDTHS = (1, 2, 3)  # channels of the fine, middle and coarse map, in multiples of `width`; each halves the side
MIN_CHANNELS = 16  # of maps above the fine one, which otherwise have half the channels of the map below
GROUP_SIZE = 16  # channels per group of group normalisation
GRID = 4  # positions per side that a vector distinguishes
VECTOR_WIDTH = 8  # size of the vectors that heads read, in multiples of `width`
FIRST_W_GAIN = 0.1  # keeps initial outputs near the mean latent


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2."""
    return F.leaky_relu(x, SLOPE)


class Normalise(nn.GroupNorm):
    """Group normalisation, then the activation."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels // GROUP_SIZE, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return activate(super().forward(x))


class Residual(nn.Module):
    """Two convolutions, each after normalisation and activation, added to the input (He et al. 2016, identity maps)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm0, self.norm1 = Normalise(channels), Normalise(channels)
        self.conv0 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv1.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x + self.conv1(self.norm1(self.conv0(self.norm0(x))))


class ToVector(nn.Module):
    """Turn a map into a vector: a few channels at up to 4x4 positions, and all channel means, then a linear layer."""

    def __init__(self, channels: int, dim: int, *, side: int) -> None:
        super().__init__()
        self.grid = min(GRID, side)
        num_few = dim // GRID**2
        self.norm = Normalise(channels)
        self.squeeze = nn.Conv2d(channels, num_few, 1)
        self.linear = nn.Linear(num_few * self.grid**2 + channels, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, side, side) -> (N, dim)."""
        x = self.norm(x)
        placed = F.adaptive_avg_pool2d(self.squeeze(x), self.grid).flatten(1)  # (N, few * grid^2)
        return self.linear(torch.cat([placed, x.mean(dim=(2, 3))], dim=1))


def trunk(
    in_channels: int, width: int, *, input_size: int
) -> tuple[nn.Sequential, nn.ModuleList, nn.ModuleList, list[int]]:
    """Stem, three residual units on maps of side 16, 8 and 4 (or smaller ones for smaller images), the downsampling
    layers between them, and the units' channels; UserError unless width is a multiple of 16."""
    if width < GROUP_SIZE or width % GROUP_SIZE:
        raise UserError(f"width must be a positive multiple of {GROUP_SIZE}, got {width}.")
    channels = [multiple * width for multiple in WIDTHS]
    first, units = stem(in_channels, width, input_size=input_size), nn.ModuleList(Residual(num) for num in channels)
    halving = [nn.Conv2d(*pair, 3, stride=2, padding=1) for pair in pairwise(channels)]
    downs = nn.ModuleList(nn.Sequential(Normalise(layer.in_channels), layer) for layer in halving)
    return first, units, downs, channels


def stem(in_channels: int, width: int, *, input_size: int) -> nn.Sequential:
    """Images (N, in_channels, input_size, input_size) -> (N, width, side, side), side at most 16."""
    side = min(input_size, TOP_SIDE)
    if input_size == side:
        return nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1))
    layers: list[nn.Module] = []
    while input_size > side:
        input_size //= 2
        channels = max(width * side // input_size, MIN_CHANNELS)
        convolution = nn.Conv2d(in_channels, channels, 3 if layers else 4, stride=2, padding=1)
        layers += [Normalise(in_channels), convolution] if layers else [convolution]
        in_channels = channels
    return nn.Sequential(*layers)


def maps_of(x: Tensor, stem: nn.Module, units: nn.ModuleList, downs: nn.ModuleList) -> list[Tensor]:
    """Images (N, in_channels, input_size, input_size) -> fine, middle and coarse map (N, channels, side, side)."""
    maps = [units[0](stem(x))]
    for down, unit in zip(downs, units[1:], strict=True):
        maps.append(unit(down(maps[-1])))
    return maps


class SmallEncoder(Encoder):
    """One w for all layers and a delta for every layer but the first, as in e4e; arguments as in `Encoder`.

    `width`, a multiple of 16, controls its size: channels and vectors grow with it, time and weights with its square.
    At 64 it has 2.9 M parameters for a 32 px generator with w_dim 128, and 4.4 M with w_dim 512.

    Three maps, each the output of one residual unit, are turned into vectors, to which those of the coarser maps are
    added: coarse styles read the coarse vector, fine ones the sum of all, by e4e's levels. The head of w is initialised
    near zero, so that initial outputs are near the mean latent; the heads of deltas, and the last convolution of each
    unit, are initialised at zero.
    """

    smallest_input = 8

    def __init__(
        self, *, num_ws: int, w_dim: int, img_channels: int = 3, input_size: int, width: int = 64,
        is_iterative: bool = False,
    ) -> None:  # fmt: skip
        size = {"num_ws": num_ws, "w_dim": w_dim, "img_channels": img_channels, "input_size": input_size}
        super().__init__(**size, is_iterative=is_iterative)
        self.stem, self.units, self.downs, channels = trunk(self.in_channels, width, input_size=input_size)
        side, dim = min(input_size, TOP_SIDE), VECTOR_WIDTH * width
        self.vectors = nn.ModuleList(ToVector(num, dim, side=side // 2**i) for i, num in enumerate(channels))
        self.norm = nn.LayerNorm(dim)
        self.head_weight = nn.Parameter(torch.zeros(num_ws, dim, w_dim))
        self.head_bias = nn.Parameter(torch.zeros(num_ws, w_dim))
        nn.init.normal_(self.head_weight.data[0], std=FIRST_W_GAIN / math.sqrt(dim))

    def _offsets(self, x: Tensor, stage: int) -> Tensor:
        levels = [(i >= COARSE_END) + (i >= MIDDLE_END) for i in range(stage + 1)]  # read by the heads, 0 is coarse
        maps = maps_of(x, self.stem, self.units, self.downs)
        vectors: list[Tensor] = []
        for to_vector, map_ in list(zip(self.vectors, maps, strict=True))[::-1][: levels[-1] + 1]:
            vector = to_vector(map_)
            vectors.append(vector + vectors[-1] if vectors else vector)
        vectors = [activate(self.norm(vector)) for vector in vectors]  # (N, dim) each
        read = torch.stack([vectors[level] for level in levels])  # (stage + 1, N, dim)
        outputs = torch.baddbmm(self.head_bias[: stage + 1, None], read, self.head_weight[: stage + 1])
        return with_deltas(outputs.unbind(), self.num_ws)
