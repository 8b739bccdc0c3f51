"""Base classes of generators, mapping and synthesis networks: the interface for training, inversion and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from wplus.errors import UserError, check_choice
from wplus.models.network import Network

NoiseMode = Literal["const", "random", "none"]
NOISE_MODES: tuple[NoiseMode, ...] = ("const", "random", "none")


class MappingNetwork(nn.Module):
    """z (and a label) -> ws. Subclasses implement `forward`. `w_avg` (w_dim,) is the mean of w."""

    w_avg: Tensor

    def forward(
        self, z: Tensor, c: Tensor | None = None, truncation_psi: float = 1.0, truncation_cutoff: int | None = None
    ) -> Tensor:
        """z (N, z_dim), c (N, c_dim) one-hot -> ws (N, num_ws, w_dim).

        Truncation pulls the first `truncation_cutoff` layers (None: all) towards the mean: w_avg + psi (w - w_avg).
        """
        raise NotImplementedError

    def truncate(self, ws: Tensor, psi: float, cutoff: int | None) -> Tensor:
        """Replace the first `cutoff` layers (None: all) of ws (N, num_ws, w_dim) by w_avg + psi (w - w_avg)."""
        if psi == 1:
            return ws
        truncated = self.w_avg.lerp(ws[:, :cutoff], psi)
        return truncated if cutoff is None else torch.cat([truncated, ws[:, cutoff:]], dim=1)

    def update_w_avg(self, batch_mean: Tensor) -> None:
        """Move w_avg towards the mean w of a training batch, (w_dim,), unless the mean is known."""

    if TYPE_CHECKING:
        __call__ = forward


class NoiseLayer(nn.Module):
    """A layer that adds noise to maps of `resolution` px; `noise_const` (resolution, resolution) is stored."""

    resolution: int
    noise_const: Tensor


@dataclass(frozen=True)
class Styles:
    """Input of a `StyledSynthesis` that bypasses its affine layers, in place of ws.

    Attributes
        layers    (N, C) each, from the block's first layer on: outputs of the affine layers
        block     resolution of the first block in use
        features  (N, C, block / 2, block / 2), the input of that block; None: start from the network's constant
    """

    layers: tuple[Tensor, ...]
    block: int = 4
    features: Tensor | None = None

    def __len__(self) -> int:
        return len(self.layers[0])


class SynthesisNetwork(nn.Module):
    """ws -> images. Subclasses implement `synthesize`, and set `noise_layers` if they take noise."""

    noise_layers: Sequence[NoiseLayer] = ()  # coarse to fine

    def __init__(self, *, num_ws: int, w_dim: int) -> None:
        super().__init__()
        self.num_ws, self.w_dim = num_ws, w_dim

    @property
    def noise_shapes(self) -> list[tuple[int, int]]:
        """(H, W) of the noise of each layer, coarse to fine."""
        return [(layer.resolution, layer.resolution) for layer in self.noise_layers]

    def const_noise(self) -> list[Tensor]:
        """The stored noise of each layer as (1, 1, H, W)."""
        return [layer.noise_const[None, None] for layer in self.noise_layers]

    def random_noise(self, num: int) -> list[Tensor]:
        """Fresh noise for `num` images, (num, 1, H, W) per layer, from torch's global generator."""
        return [torch.randn(num, 1, *x.noise_const.shape, device=x.noise_const.device) for x in self.noise_layers]

    def forward(
        self, ws: Tensor | Styles, noise_mode: NoiseMode = "const", noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """ws (N, num_ws, w_dim) -> images (N, img_channels, resolution, resolution), about [-1, 1], not clamped.

        A `StyledSynthesis` also accepts `Styles`. `noise`, one (N or 1, 1, H, W) per entry of `noise_shapes`, overrides
        `noise_mode`.
        """
        if isinstance(ws, Tensor) and ws.shape[1:] != (self.num_ws, self.w_dim):
            raise UserError(f"ws must be (N, {self.num_ws}, {self.w_dim}), got {tuple(ws.shape)}.")
        check_choice("noise_mode", noise_mode, NOISE_MODES)
        chosen: Sequence[Tensor | None] = [None] * len(self.noise_layers)
        if noise is not None:
            chosen = noise
        elif noise_mode != "none":
            chosen = self.const_noise() if noise_mode == "const" else self.random_noise(len(ws))
        if len(chosen) != len(self.noise_layers):
            raise UserError(f"noise must have {len(self.noise_layers)} maps, one per layer, got {len(chosen)}.")
        return self._drawn(ws, chosen)

    def _drawn(self, ws: Tensor | Styles, noise: Sequence[Tensor | None]) -> Tensor:
        if isinstance(ws, Styles):
            raise UserError("This generator has no layers with styles: it draws from ws (N, num_ws, w_dim) alone.")
        return self.synthesize(ws.to(torch.float32), noise)

    def synthesize(self, ws: Tensor, noise: Sequence[Tensor | None]) -> Tensor:
        """ws (N, num_ws, w_dim) and one noise map or None per noise layer -> images."""
        raise NotImplementedError

    if TYPE_CHECKING:
        __call__ = forward


class StyledSynthesis(SynthesisNetwork):
    """A synthesis network whose layers take styles, affine in w: StyleSpace, S (Wu et al. 2021, arXiv:2011.12799).

    Subclasses set `style_sizes` and implement `styles`, `draw`, and `features`.
    """

    style_sizes: Mapping[str, int]
    """Layer name, such as `b16.conv1` -> channels of its style, in order of execution."""
    feature_shapes: Mapping[int, tuple[int, int, int]]
    """Resolution of a block -> (C, H, W) of its input map, for all but the first block."""

    def styles(self, ws: Tensor) -> list[Tensor]:
        """ws (N, num_ws, w_dim) -> (N, C) for each of `style_sizes`."""
        raise NotImplementedError

    def draw(self, styles: Styles, noise: Sequence[Tensor | None]) -> Tensor:
        """Styles and a noise map or None per noise layer, used or not -> images; like `synthesize` for ws."""
        raise NotImplementedError

    def features(self, ws: Tensor, block: int, noise: Sequence[Tensor | None]) -> Tensor:
        """ws (N, num_ws, w_dim) -> the map (N, C, block / 2, block / 2) that enters a block."""
        raise NotImplementedError

    def styles_from(self, ws: Tensor, block: int) -> tuple[Tensor, ...]:
        """ws (N, num_ws, w_dim) -> the styles of the layers from this block on."""
        names = list(self.style_sizes)
        first = next(index for index, name in enumerate(names) if _block_of(name) == block)
        return tuple(self.styles(ws)[first:])

    def synthesize(self, ws: Tensor, noise: Sequence[Tensor | None]) -> Tensor:
        """ws (N, num_ws, w_dim) and one noise map or None per noise layer -> images."""
        return self.draw(Styles(tuple(self.styles(ws))), noise)

    def _drawn(self, ws: Tensor | Styles, noise: Sequence[Tensor | None]) -> Tensor:
        return self.draw(ws, noise) if isinstance(ws, Styles) else super()._drawn(ws, noise)


def _block_of(style: str) -> int:
    """The resolution of the block in the name of a style."""
    return int(style.partition(".")[0].removeprefix("b"))


class GeneratorNetwork(Network):
    """A generator: `mapping` maps z and a label to ws, `synthesis` maps ws to images."""

    mapping: MappingNetwork
    synthesis: SynthesisNetwork
    data_labels: Tensor | None = None
    """A sample of the labels (M, c_dim) of its training data; None if unknown."""

    def __init__(self, *, resolution: int, z_dim: int, w_dim: int, c_dim: int, img_channels: int, num_ws: int) -> None:
        super().__init__()
        self.resolution, self.img_channels = resolution, img_channels
        self.z_dim, self.w_dim, self.c_dim, self.num_ws = z_dim, w_dim, c_dim, num_ws

    @property
    def num_active_ws(self) -> int:
        """Number of ws in use: fewer than num_ws while a progressive network is below its full resolution."""
        return self.num_ws

    def forward(
        self, z: Tensor, c: Tensor | None = None, truncation_psi: float = 1.0, truncation_cutoff: int | None = None,
        noise_mode: NoiseMode = "const", noise: Sequence[Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """z (N, z_dim), c (N, c_dim) -> images (N, img_channels, resolution, resolution)."""
        return self.synthesis(self.mapping(z, c, truncation_psi, truncation_cutoff), noise_mode=noise_mode, noise=noise)

    if TYPE_CHECKING:
        __call__ = forward


def check_label(c: Tensor | None, c_dim: int) -> Tensor | None:
    """Validate labels (N, c_dim): returned unchanged, or None for a network without classes; UserError if invalid."""
    if not c_dim:
        return None
    if c is None or c.shape[1:] != (c_dim,):
        raise UserError(f"labels must be (N, {c_dim}), got {None if c is None else tuple(c.shape)}.")
    return c
