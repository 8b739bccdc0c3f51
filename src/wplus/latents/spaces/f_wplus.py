"""F/W+: the feature map that enters a block, and w+ (Zhu et al. 2021, Barbershop; Kang et al. 2021, BDInvert).

The map F takes the place of what the blocks below make; the layers from the block on take w+, and colours begin there.
An edit of w+ by e reaches the map as a difference: F' = F + G_r(w + e) - G_r(w), for which a code keeps the w of the
layers below, too. Images come closest here, and a straight line between two maps is a cross-fade.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from wplus.core.random import rng
from wplus.errors import UserError
from wplus.latents.space import LatentSpace, of_weights, space_of, whitened
from wplus.latents.spaces.s import styled
from wplus.latents.w_stats import map_samples
from wplus.models.generator import GeneratorNetwork, Styles

_NAME = re.compile(r"f(\d*)/?w\+")  # in names of methods and files there is no slash
_LARGEST_DEFAULT = 64  # of the block: maps of 32 px, as in the literature at 1024 px
_NUM_SAMPLES, _CHUNK = 512, 32
_SMALLEST = 1e-3  # of the mean deviation


class FWPlus(LatentSpace):
    """f/w+ (C r/2 r/2 + num_ws w_dim,): the map that enters block r, row by row, then w+; f16/w+ says r = 16.

    Without a block in its name r is half the generator's resolution, from 8 to 64.
    """

    name = "f/w+"
    of_layers = True
    has_ws = False
    is_white = True
    keeps_images = False  # colours of the blocks below are left out
    cross_fades = True

    def __init__(self, block: int | None = None) -> None:
        self.block = block

    def __str__(self) -> str:
        return f"f{'' if self.block is None else self.block}/w+"

    @classmethod
    def named(cls, name: str) -> LatentSpace | None:
        """f/w+, or with its block f16/w+."""
        found = _NAME.fullmatch(name)
        return cls(int(found[1]) if found[1] else None) if found else None

    def of(self, generator: GeneratorNetwork) -> FWPlus:
        """With its block; UserError for one that the generator does not have."""
        unused = generator.num_ws - generator.num_active_ws  # two layers a resolution, while a network grows
        in_use = generator.resolution >> unused // 2
        allowed = [block for block in styled(generator, str(self)).feature_shapes if block <= in_use]
        block = max(8, min(in_use // 2, _LARGEST_DEFAULT)) if self.block is None else self.block
        if block not in allowed:
            raise UserError(f"space.block must be one of {', '.join(map(str, allowed))}, got {block}.")
        return FWPlus(block)

    def shape(self, generator: GeneratorNetwork) -> tuple[int, ...]:
        """The numbers of the map and of w+, one after the other."""
        return (sum(self.parts(generator)),)

    def parts(self, generator: GeneratorNetwork) -> list[int]:
        """The map's, then w_dim for each layer of w+."""
        return [torch.Size(self._map(generator)).numel(), *[generator.w_dim] * generator.num_ws]

    def to_styles(self, codes: Tensor, generator: GeneratorNetwork) -> Styles:
        """The map, and the styles of the layers from the block on."""
        features, ws = self._split(codes, generator)
        return Styles(styled(generator, str(self)).styles_from(ws, self._block), self._block, features)

    def from_ws(self, ws: Tensor, generator: GeneratorNetwork) -> Tensor:
        """The map that the generator makes of w+ with its stored noise, and w+."""
        return torch.cat([_features(generator, ws, self._block).flatten(1), ws.flatten(1)], dim=1)

    def scale(self, generator: GeneratorNetwork) -> Tensor:
        """(D,) the deviations of the map's channels, and of w as a whole."""
        channels, w = _deviations(generator, self._block)
        height, width = self._map(generator)[1:]
        return torch.cat([channels.repeat_interleave(height * width), w.expand(generator.num_ws * generator.w_dim)])

    def styles(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """Those of w+ in all layers."""
        return space_of("s", generator).from_ws(self._split(codes, generator)[1], generator)

    def prior_distance(self, codes: Tensor, generator: GeneratorNetwork) -> Tensor:
        """(N,) that of the w+ of the layers that draw; a map has no prior."""
        ws = self._split(codes, generator)[1]
        return whitened(generator).distance(ws[:, self._first(generator) :])

    def edited(self, codes: Tensor, shift: Tensor, generator: GeneratorNetwork) -> Tensor:
        """F' = F + (G_r(w + e) - G_r(w)), and w + e: in this order nothing changes where e is 0."""
        features, ws = self._split(codes, generator)
        before, after = (_features(generator, each, self._block) for each in (ws, ws + shift.to(ws)))
        return torch.cat([(features + (after - before)).flatten(1), (ws + shift.to(ws)).flatten(1)], dim=1)

    @property
    def _block(self) -> int:
        assert self.block is not None, "a space of its generator, see `of`"
        return self.block

    def _map(self, generator: GeneratorNetwork) -> tuple[int, int, int]:
        return styled(generator, str(self)).feature_shapes[self._block]

    def _first(self, generator: GeneratorNetwork) -> int:
        """The number of the first layer of w+ that draws: two layers a block, one in StyleGAN2's first."""
        return sum(resolution < self._block for resolution, _ in generator.synthesis.noise_shapes)

    def _split(self, codes: Tensor, generator: GeneratorNetwork) -> tuple[Tensor, Tensor]:
        """Codes (N, D) -> the map (N, C, H, W), ws (N, num_ws, w_dim)."""
        features, ws = codes.split([self.parts(generator)[0], generator.num_ws * generator.w_dim], dim=1)
        return features.unflatten(1, self._map(generator)), ws.unflatten(1, (generator.num_ws, generator.w_dim))


def _features(generator: GeneratorNetwork, ws: Tensor, block: int) -> Tensor:
    synthesis = styled(generator, "f/w+")
    return synthesis.features(ws, block, synthesis.const_noise())


@of_weights
@torch.no_grad()
def _deviations(generator: GeneratorNetwork, block: int) -> tuple[Tensor, Tensor]:
    """Root mean square over samples, numbers and places: (C,) of each channel of the map from its mean, () of w."""
    z = torch.randn(_NUM_SAMPLES, generator.z_dim, generator=rng(123, "features"))
    w = map_samples(generator, z, None)
    ws = w[:, None].expand(-1, generator.num_ws, -1)
    maps = torch.cat([_features(generator, some, block) for some in ws.split(_CHUNK)])
    channels = (maps - maps.mean(dim=(0, 2, 3), keepdim=True)).square().mean(dim=(0, 2, 3)).sqrt()
    return channels.clamp_min(float(_SMALLEST * channels.mean())), (w - w.mean(dim=0)).square().mean().sqrt()
